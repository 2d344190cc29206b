/* The whole state of the host library, taken once and put back before each input (snapshot.c). */
#ifndef SNAPSHOT_H
#define SNAPSHOT_H

void snapshot_take(void);
void snapshot_restore(void);

#endif
