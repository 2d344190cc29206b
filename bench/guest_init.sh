#!/bin/sh
# init of bench's Linux guest: marks that it runs, then the laboratory's own init (/init.lab), which runs /bin/bench-guest.
/bin/mark 51
exec /bin/sh /init.lab
