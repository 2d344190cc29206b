/* Host builds of lib/string.c: our functions beside libc's. */
#ifndef FAKE_RENAME_H
#define FAKE_RENAME_H

#define memcpy  lib_memcpy
#define memmove lib_memmove
#define memset  lib_memset
#define memcmp  lib_memcmp
#define memchr  lib_memchr
#define strlen  lib_strlen
#define strnlen lib_strnlen
#define strcmp  lib_strcmp
#define strncmp lib_strncmp
#define strchr  lib_strchr
#define strrchr lib_strrchr
#define strstr  lib_strstr

#endif
