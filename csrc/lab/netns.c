// SPDX-License-Identifier: Apache-2.0
/* Network namespaces: what Python 3.11's os module lacks (os.unshare() and os.setns() came
 * in 3.12). */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>

#include "traffic.h"

/**
 * netns_create_body() - Leave for a new network namespace and take hold of it
 * @arg:	Unused
 *
 * Return: a descriptor, or -errno, as a pointer
 */
static void *netns_create_body(void *arg)
{
	int fd;

	(void)arg;
	if (unshare(CLONE_NEWNET))
		return (void *)(intptr_t)-errno;
	fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	return (void *)(intptr_t)(fd < 0 ? -errno : fd);
}

/**
 * lab_netns_create() - Make a network namespace, leaving the calling thread where it is
 *
 * A short-lived thread does it, because unshare(2) moves the thread that calls it. The namespace
 * lives as long as the descriptor, and as the threads, processes and sockets in it.
 *
 * Return: a close-on-exec descriptor of the new namespace, -errno on failure (see unshare(2))
 */
int lab_netns_create(void)
{
	pthread_t thread;
	void *result;
	int rc;

	rc = pthread_create(&thread, NULL, netns_create_body, NULL);
	if (rc)
		return -rc;
	rc = pthread_join(thread, &result);
	return rc ? -rc : (int)(intptr_t)result;
}

/**
 * lab_netns_enter() - Move the calling thread into a network namespace
 * @fd:		The namespace's descriptor
 *
 * Return: 0, -errno on failure (see setns(2))
 */
int lab_netns_enter(int fd)
{
	return setns(fd, CLONE_NEWNET) ? -errno : 0;
}
