#!/bin/sh
# init of bench's Linux guest: marks that it runs, then the laboratory's own init (/init.lab), which runs /bin/bench-guest.
case $bench in # of the kernel's command line
two) ;;
three) /bin/mark 71 ;;
four) /bin/mark 73 ;;
*) /bin/mark 51 ;;
esac
exec /bin/sh /init.lab
