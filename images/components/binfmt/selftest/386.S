# cat for linux/386. System calls: number in eax, arguments in ebx, ecx, edx.
    .globl _start
_start:
    sub $4096, %esp
again:
    mov $3, %eax            # read(0, buffer, 4096)
    xor %ebx, %ebx
    mov %esp, %ecx
    mov $4096, %edx
    int $0x80
    mov %eax, %esi
    xor %ebx, %ebx
    test %esi, %esi
    jz leave
    js fail
    mov $4, %eax            # write(1, buffer, what was read)
    mov $1, %ebx
    mov %esp, %ecx
    mov %esi, %edx
    int $0x80
    cmp %eax, %esi
    je again
fail:
    mov $1, %ebx
leave:
    mov $1, %eax            # exit
    int $0x80
