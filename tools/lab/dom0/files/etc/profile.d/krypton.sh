# A prompt that a script can wait for, also in a non-interactive look.
PS1='root@krypton-dom0:\w# '
bind 'set enable-bracketed-paste off' 2>/dev/null
