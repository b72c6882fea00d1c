// SPDX-License-Identifier: Apache-2.0
/* A busy machine: one thread a processor that never sleeps and gives way to whoever has work. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "bench.h"
#include "traffic.h"

/**
 * struct lab_spin - The threads
 * @stop:	Asks them to stop
 * @count:	How many run
 * @thread:	They
 */
struct lab_spin {
	bool stop;
	int count;
	pthread_t thread[CPU_SETSIZE];
};

/**
 * spin_body() - Spin, at SCHED_IDLE (sched(7)): no processor gets to sleep, no other thread waits
 * @arg:	The threads
 *
 * SCHED_IDLE gives way to a thread that wakes up, but one that called sched_yield() is not woken:
 * it would wait until the next tick, some ms. So this one yields in its turn, all the time.
 *
 * Return: NULL
 */
static void *spin_body(void *arg)
{
	const struct sched_param none = {0};
	struct lab_spin *spin = arg;

	if (sched_setscheduler(0, SCHED_IDLE, &none))
		return NULL;
	while (!lab_stopping(&spin->stop))
		sched_yield();
	return NULL;
}

/**
 * spin_start_on() - Start one thread, on one processor
 * @spin:	The threads
 * @cpu:	The processor
 *
 * Return: 0, -errno on failure
 */
static int spin_start_on(struct lab_spin *spin, int cpu)
{
	cpu_set_t one;
	int rc;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	rc = lab_thread_start(&spin->thread[spin->count], spin_body, spin);
	if (rc)
		return rc;
	rc = -pthread_setaffinity_np(spin->thread[spin->count++], sizeof(one), &one);
	return rc;
}

/**
 * lab_spin_start() - Keep all processors that this process may use from sleeping
 * @out:	Set to the threads
 *
 * Return: 0, -ENOMEM, -errno on failure, when no thread is left running
 */
int lab_spin_start(struct lab_spin **out)
{
	struct lab_spin *spin;
	cpu_set_t allowed;
	int rc = 0;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return -errno;
	spin = calloc(1, sizeof(*spin));
	if (!spin)
		return -ENOMEM;
	for (int cpu = 0; cpu < CPU_SETSIZE && !rc; cpu++) {
		if (CPU_ISSET(cpu, &allowed))
			rc = spin_start_on(spin, cpu);
	}
	if (rc) {
		lab_spin_stop(spin);
		return rc;
	}
	*out = spin;
	return 0;
}

/**
 * lab_spin_stop() - Let them sleep again
 * @spin:	The threads, which are gone then, or NULL
 */
void lab_spin_stop(struct lab_spin *spin)
{
	if (!spin)
		return;
	__atomic_store_n(&spin->stop, true, __ATOMIC_RELEASE);
	for (int i = 0; i < spin->count; i++)
		pthread_join(spin->thread[i], NULL);
	free(spin);
}
