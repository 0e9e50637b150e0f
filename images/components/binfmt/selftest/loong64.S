# cat for linux/loong64. System calls: number in a7, arguments in a0, a1, a2.
    .globl _start
_start:
    li.w $t0, 4096
    sub.d $sp, $sp, $t0
again:
    move $a0, $zero         # read(0, buffer, 4096)
    move $a1, $sp
    li.w $a2, 4096
    li.w $a7, 63
    syscall 0
    move $s0, $a0
    beqz $s0, leave
    bltz $s0, fail
    li.w $a0, 1             # write(1, buffer, what was read)
    move $a1, $sp
    move $a2, $s0
    li.w $a7, 64
    syscall 0
    beq $a0, $s0, again
fail:
    li.w $a0, 1
leave:
    li.w $a7, 93            # exit
    syscall 0
