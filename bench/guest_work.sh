#!/bin/sh
# What bench's Linux guests do when they are up (marks: bench/guests.sh). Guest one reads its disk, sends to dom0 and works;
# guest two sends to guest one.
case " $(cat /proc/cmdline) " in
*" bench=one "*)
    mark 52
    mark 60
    dd if=/dev/xvda of=/dev/null bs=64k 2>/dev/null
    mark 61
    sleep 1
    mark 62
    dd if=/dev/zero bs=64k count=128 2>/dev/null | nc 10.9.0.1 5001
    mark 63
    dom0_ops 100
    nc -l -p 5002 >/dev/null &
    echo bench-guest-one
    ;;
*" bench=two "*)
    sleep 1
    mark 64
    dd if=/dev/zero bs=64k count=128 2>/dev/null | nc 10.9.0.11 5002
    mark 65
    echo bench-guest-two
    ;;
esac
