# cat for linux/amd64. System calls: number in rax, arguments in rdi, rsi, rdx.
    .globl _start
_start:
    sub $4096, %rsp
again:
    xor %eax, %eax          # read(0, buffer, 4096)
    xor %edi, %edi
    mov %rsp, %rsi
    mov $4096, %edx
    syscall
    mov %rax, %rbx
    xor %edi, %edi
    test %rbx, %rbx
    jz leave
    js fail
    mov $1, %eax            # write(1, buffer, what was read)
    mov $1, %edi
    mov %rsp, %rsi
    mov %rbx, %rdx
    syscall
    cmp %rax, %rbx
    je again
fail:
    mov $1, %edi
leave:
    mov $60, %eax           # exit
    syscall
