/* Functions that the compiler calls by name; nobody else does. */
#ifndef LIB_BUILTINS_H
#define LIB_BUILTINS_H

int __popcountdi2(long w);

#endif
