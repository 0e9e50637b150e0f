# cat for linux/s390x. System calls: number with svc, arguments in r2, r3, r4.
    .globl _start
_start:
    aghi %r15, -4096
again:
    lghi %r2, 0             # read(0, buffer, 4096)
    lgr %r3, %r15
    lghi %r4, 4096
    svc 3
    ltgr %r8, %r2
    jz leave
    jm fail
    lghi %r2, 1             # write(1, buffer, what was read)
    lgr %r3, %r15
    lgr %r4, %r8
    svc 4
    cgr %r2, %r8
    je again
fail:
    lghi %r2, 1
leave:
    svc 1                   # exit
