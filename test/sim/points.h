/* Put in front of every product file of a simulation (gcc -include): each atomic step is a place at which the
 * simulated CPU may be interrupted or another one may go on (sim_point, test/sim/engine.c). Locks are made of
 * atomic steps, so they are covered too. */
#ifndef SIM_POINTS_H
#define SIM_POINTS_H

void sim_point(const char *file, int line);
#define SIM_POINT_(expr)                 (sim_point(__FILE__, __LINE__), (expr))

#define __atomic_load_n(...)             SIM_POINT_(__atomic_load_n(__VA_ARGS__))
#define __atomic_store_n(...)            SIM_POINT_(__atomic_store_n(__VA_ARGS__))
#define __atomic_exchange_n(...)         SIM_POINT_(__atomic_exchange_n(__VA_ARGS__))
#define __atomic_compare_exchange_n(...) SIM_POINT_(__atomic_compare_exchange_n(__VA_ARGS__))
#define __atomic_fetch_add(...)          SIM_POINT_(__atomic_fetch_add(__VA_ARGS__))
#define __atomic_fetch_sub(...)          SIM_POINT_(__atomic_fetch_sub(__VA_ARGS__))
#define __atomic_fetch_or(...)           SIM_POINT_(__atomic_fetch_or(__VA_ARGS__))
#define __atomic_fetch_and(...)          SIM_POINT_(__atomic_fetch_and(__VA_ARGS__))
#define __atomic_add_fetch(...)          SIM_POINT_(__atomic_add_fetch(__VA_ARGS__))
#define __atomic_sub_fetch(...)          SIM_POINT_(__atomic_sub_fetch(__VA_ARGS__))
#define __atomic_or_fetch(...)           SIM_POINT_(__atomic_or_fetch(__VA_ARGS__))
#define __atomic_and_fetch(...)          SIM_POINT_(__atomic_and_fetch(__VA_ARGS__))

#endif
