/* core/domain: what its files share. */
#ifndef DOMAIN_PRIVATE_H
#define DOMAIN_PRIVATE_H

#include "core/domain.h"

/* The list of ordinary domains by rising id (RANK_DOMAIN_LIST). */
extern struct domain *domain_list;
extern struct spinlock domain_list_lock;

/* Takes d out of the list and the table, if `refs` is the number of references left: then they are gone with
 * it. */
bool must_check domain_unpublish(struct domain *d, uint32_t refs);
/* Frees everything of a domain that nobody can find and whose memory is gone. */
void domain_free_all(struct domain *d);
void vcpu_free_all(struct vcpu *v);
/* Gives a registered vcpu_info frame back; v does not run. */
void vcpu_info_release(struct vcpu *v);
/* Where v's vcpu_info is as long as it registers none. */
static inline struct vcpu_info *vcpu_info_default(const struct vcpu *v)
{
    return v->private_info ? v->private_info : (struct vcpu_info *)&v->domain->shared_info->vcpu_info[v->id];
}
/* Timer functions of a vCPU. */
void vcpu_periodic_fire(void *data);
void vcpu_singleshot_fire(void *data);
void vcpu_poll_fire(void *data);
void domain_crash_job(void *data);
void domain_reap(void *data);
void domain_watchdog_fire(void *data);

#endif
