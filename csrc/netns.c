// SPDX-License-Identifier: Apache-2.0
/*
 * netns.c - network namespaces: what Python's os module lacks before 3.12 (os.unshare(),
 * os.setns()) or lacks altogether (mount(2)).
 *
 * unshare(2) and setns(2) move the thread that calls them, so what only needs a moment elsewhere is
 * done by a thread that ends with it: nothing is left to be moved back.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tapbond.h"
#include "thread.h"

/* What a thread of its own is asked to open, and in which namespace. */
struct netns_socket {
	int netns;
	int family;
	int type;
	int protocol;
};

/**
 * netns_result() - give a descriptor or an error back from a thread
 * @fd: what a system call returned
 *
 * Return: @fd or -errno, as a pointer.
 */
static void *netns_result(int fd)
{
	return (void *)(intptr_t)(fd < 0 ? -errno : fd);
}

/**
 * netns_thread() - run something in a thread of its own and wait for it
 * @run: returns by netns_result()
 * @argument: given to @run
 *
 * Return: what @run returned, or -errno.
 */
static int netns_thread(void *(*run)(void *), void *argument)
{
	pthread_t thread;
	void *result;
	int err;

	err = thread_start(&thread, "tapbond-netns", run, argument);
	if (err)
		return err;
	err = pthread_join(thread, &result);
	return err ? -err : (int)(intptr_t)result;
}

/**
 * netns_create_run() - leave for a new network namespace and take hold of it
 * @unused: unused
 *
 * Return: a descriptor or -errno, as a pointer.
 */
static void *netns_create_run(void *unused)
{
	(void)unused;
	if (unshare(CLONE_NEWNET) < 0)
		return netns_result(-1);
	return netns_result(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
}

/**
 * netns_socket_run() - open a socket in a namespace
 * @argument: a struct netns_socket
 *
 * Return: a descriptor or -errno, as a pointer.
 */
static void *netns_socket_run(void *argument)
{
	const struct netns_socket *wanted = argument;

	if (setns(wanted->netns, CLONE_NEWNET) < 0)
		return netns_result(-1);
	return netns_result(socket(wanted->family, wanted->type | SOCK_CLOEXEC, wanted->protocol));
}

/**
 * tb_netns_create() - make a network namespace, leaving the calling thread where it is
 *
 * The namespace lives as long as the descriptor, and as the threads, sockets and mounts of it.
 *
 * Return: a close-on-exec descriptor of the new namespace, or -errno (unshare(2)).
 */
int tb_netns_create(void)
{
	return netns_thread(netns_create_run, NULL);
}

/**
 * tb_netns_enter() - move the calling thread into a network namespace
 * @fd: the namespace's descriptor
 *
 * Return: 0 or -errno (setns(2)).
 */
int tb_netns_enter(int fd)
{
	return setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

/**
 * tb_netns_socket() - open a socket in another network namespace; it stays there
 * @fd: the namespace's descriptor
 * @family: as for socket(2)
 * @type: the same; it is close-on-exec in any case
 * @protocol: the same
 *
 * Return: the socket, or -errno (setns(2), socket(2)).
 */
int tb_netns_socket(int fd, int family, int type, int protocol)
{
	struct netns_socket wanted = {fd, family, type, protocol};

	return netns_thread(netns_socket_run, &wanted);
}

/**
 * tb_netns_pin() - keep a namespace alive without any process, by a bind mount
 * @fd: the namespace's descriptor
 * @path: an existing file, which shows the namespace from then on
 *
 * Return: 0 or -errno (mount(2)): EPERM without CAP_SYS_ADMIN over the mount namespace.
 */
int tb_netns_pin(int fd, const char *path)
{
	char source[32];

	snprintf(source, sizeof(source), "/proc/self/fd/%d", fd);
	return mount(source, path, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

/**
 * tb_netns_unpin() - undo tb_netns_pin()
 * @path: the file; it stays
 *
 * Return: 0 or -errno (umount2(2)): EINVAL when nothing is mounted there.
 */
int tb_netns_unpin(const char *path)
{
	return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}
