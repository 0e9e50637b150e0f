# cat for linux/riscv64. System calls: number in a7, arguments in a0, a1, a2.
    .globl _start
_start:
    li t0, 4096
    sub sp, sp, t0
again:
    li a0, 0                # read(0, buffer, 4096)
    mv a1, sp
    li a2, 4096
    li a7, 63
    ecall
    mv s1, a0
    beqz s1, leave
    bltz s1, fail
    li a0, 1                # write(1, buffer, what was read)
    mv a1, sp
    mv a2, s1
    li a7, 64
    ecall
    beq a0, s1, again
fail:
    li a0, 1
leave:
    li a7, 93               # exit
    ecall
