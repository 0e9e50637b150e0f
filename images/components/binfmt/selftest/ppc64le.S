# cat for linux/ppc64le. System calls: number in r0, arguments in r3, r4, r5; an error sets the summary-overflow bit
# of condition register 0. Without an ABI version the entry point would be taken for a function descriptor (ELFv1).
    .abiversion 2
    .globl _start
_start:
    addi 1, 1, -4096
again:
    li 3, 0                 # read(0, buffer, 4096)
    mr 4, 1
    li 5, 4096
    li 0, 3
    sc
    bso fail
    mr 14, 3
    cmpdi 14, 0
    beq leave
    li 3, 1                 # write(1, buffer, what was read)
    mr 4, 1
    mr 5, 14
    li 0, 4
    sc
    bso fail
    cmpd 3, 14
    beq again
fail:
    li 3, 1
leave:
    li 0, 1                 # exit
    sc
