@ cat for linux/arm/v6, and with V7 defined for linux/arm/v7. System calls: number in r7, arguments in r0, r1, r2.
    .ifdef V7
    .arch armv7-a
    .else
    .arch armv6
    .endif
    .globl _start
_start:
    .ifdef V7
    movw r5, #0x5678        @ an ARMv6 processor takes these three for undefined
    movt r5, #0x1234
    dmb
    .endif
    sub sp, sp, #4096
again:
    mov r0, #0              @ read(0, buffer, 4096)
    mov r1, sp
    mov r2, #4096
    mov r7, #3
    svc #0
    movs r4, r0
    beq leave
    bmi fail
    mov r0, #1              @ write(1, buffer, what was read)
    mov r1, sp
    mov r2, r4
    mov r7, #4
    svc #0
    cmp r0, r4
    beq again
fail:
    mov r0, #1
leave:
    mov r7, #1              @ exit
    svc #0
