/*
 * A toolstack of the test guest's own: booted in place of dom0 it makes small PV domains from its own image by domctl, gives
 * each something to do, watches it and takes it away again. So an attack that ends in its domain's death costs some
 * milliseconds and not a boot.
 *
 *   ATTACK(name) { CHECK(...); }              runs in an ordinary domain; its CHECKs must hold
 *   DEADLY(name, "part of the reason") { }    runs there too, and must end in its death with that reason in the log
 *   EITHER(name, rounds) { attack_seed }      so often, each time with another seed; ends as it likes, but with a reason
 *
 * All are tests of the list (domu_<name>). A healthy domain lives beside them all the time: it counts, answers pings and looks
 * after a pattern in its memory. After each attack it must be well, and all of the attacker's memory must have come back.
 */
#ifndef TOOLSTACK_H
#define TOOLSTACK_H

#include "guest.h"
#include <xen/domctl.h>
#include <xen/sysctl.h>

enum domu_role { ROLE_ATTACK = 1, ROLE_HEALTHY, ROLE_IDLE, ROLE_TEST };

/* The page that a domain and its maker share: behind its start_info. */
struct domu_report {
    uint64_t magic;
    uint32_t role, attack, id;
    volatile uint32_t done, failed; /* the attack came to its end; CHECKs that did not hold */
    volatile uint64_t beats;        /* of the healthy one */
    volatile uint32_t port, pongs;
    volatile uint64_t ask[8], answer[8]; /* between a test and its domain */
    volatile uint32_t text_bytes;
    char text[1500];
};
extern struct domu_report *domu_report; /* in a domain that attacks, else NULL */
void hostile_program(void);

struct domu {
    domid_t id;
    bool alive;
    struct domu_report *report;
    uint64_t mfn[2]; /* of its two 2 MiB pieces */
    unsigned port;   /* ours, to the port that it opened for us; 0 = none */
};

#define DOMU_PAGES 1024u
static inline uint64_t domu_mfn(const struct domu *u, unsigned pfn)
{
    return u->mfn[pfn / 512] + pfn % 512;
}

/* A paused domain with `vcpus` vCPUs. slot: 0 to 3, where its report is mapped. 0 or an errno. */
long domu_create(struct domu *u, unsigned slot, enum domu_role role, unsigned attack, unsigned vcpus);
long domu_unpause(struct domu *u);
/* Waits till it has shut down: SHUTDOWN_*, or -1 when it did not within this time. */
int domu_wait(struct domu *u, uint64_t ns);
/* Takes it away and waits until nothing is left. */
long domu_destroy(struct domu *u);
bool domu_info(domid_t id, struct xen_domctl_getdomaininfo *out);
long domctl(struct xen_domctl *op, unsigned cmd, domid_t id);
long sysctl(struct xen_sysctl *op, unsigned cmd);
uint64_t machine_free_pages(void);
/* Does what the hypervisor has logged since the last call contain this? */
bool log_says(const char *text);
/* The healthy domain, made when first asked for; NULL when that failed (the test has failed then). */
struct domu *healthy(void);
/* Is it well? Fails the test when not. */
bool healthy_is_well(void);
void sleep_ns(uint64_t ns);
/* A frame of the domain at scratch page 440 + i (below 64), with these flags. */
void *foreign_map(struct domu *u, unsigned i, uint64_t mfn, uint64_t flags);

struct attack {
    const char *name, *reason; /* reason: of its death; NULL = it survives */
    void (*fn)(void);
    unsigned either; /* rounds: it may survive or die of anything, as long as the log says of what */
};
void attack_run(const struct attack *a);
unsigned attack_number(const struct attack *a);
/* The text in which log_says looked last. */
const char *log_last(void);
#define attack_seed (domu_report->ask[0])
/* Test number i of the list as an ordinary domain. */
void test_run_as_domu(unsigned i);

#define ATTACK_ENTRY(id, why, rounds)                                                                        \
    static void attack_##id(void);                                                                           \
    static const struct attack a_##id                                                                        \
        __attribute__((used, section("attacks"), aligned(8))) = {#id, why, attack_##id, rounds};             \
    TEST(domu_##id)                                                                                          \
    {                                                                                                        \
        attack_run(&a_##id);                                                                                 \
    }                                                                                                        \
    static void attack_##id(void)
/* Something for a domain to do that a test starts itself: a_<name>. */
#define LIFE(id)                                                                                             \
    static void attack_##id(void);                                                                           \
    static const struct attack a_##id                                                                        \
        __attribute__((used, section("attacks"), aligned(8))) = {#id, NULL, attack_##id, 0};                 \
    static void attack_##id(void)
#define ATTACK(id)         ATTACK_ENTRY(id, NULL, 0)
#define DEADLY(id, reason) ATTACK_ENTRY(id, reason, 0)
#define EITHER(id, rounds) ATTACK_ENTRY(id, NULL, rounds)

#endif
