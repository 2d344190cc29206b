/* Force-included: every symbol is local to the image, so that position-independent code needs no GOT. */
#ifndef CORE_HIDDEN_H
#define CORE_HIDDEN_H
#pragma GCC visibility push(hidden)
#endif
