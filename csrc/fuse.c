// SPDX-License-Identifier: Apache-2.0
/*
 * fuse.c - answer the end of one link with requests that were prepared for it, at once.
 *
 * While the kernel redirects frames, those for a dead slave are lost until a filter sends them by
 * another one. A thread of its own waits for the news from rtnetlink(7) and hands the kernel the
 * bytes that say so, while the control plane is still decoding.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tapbond.h"
#include "thread.h"

/* More than the messages of one notification of a link with many VFs or names. */
#define NEWS_SIZE 32768

/* Not in net/if.h. */
#define LOWER_UP 0x10000u

struct tb_fuse {
	int news_fd;	/* netlink, in RTNLGRP_LINK of the links' namespace */
	int request_fd; /* netlink, in the same namespace */
	int stop_fd;
	pthread_t thread;
	pthread_mutex_t lock; /* of all below */
	uint32_t ifindex;     /* of the link to wait for; 0: none */
	uint32_t len;
	uint8_t request[TB_FUSE_LEN];
	uint32_t blown; /* how often */
	int error;	/* of the last time */
	uint8_t news[NEWS_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
};

/**
 * fuse_concerns() - does a message say that a link carries no more frames?
 * @header: the message, whole
 * @ifindex: the link
 *
 * A bridge tells of its ports under AF_BRIDGE, and of one that has left it as deleted.
 *
 * Return: whether it is down, without carrier, or gone.
 */
static bool fuse_concerns(const struct nlmsghdr *header, uint32_t ifindex)
{
	const struct ifinfomsg *link = NLMSG_DATA(header);

	if (header->nlmsg_type != RTM_NEWLINK && header->nlmsg_type != RTM_DELLINK)
		return false;
	if (header->nlmsg_len < NLMSG_LENGTH(sizeof(*link)) || link->ifi_family != AF_UNSPEC)
		return false;
	if ((uint32_t)link->ifi_index != ifindex)
		return false;
	return header->nlmsg_type == RTM_DELLINK || !(link->ifi_flags & IFF_UP) ||
	       !(link->ifi_flags & LOWER_UP);
}

/**
 * fuse_answer() - take the kernel's answers to the requests
 * @fuse: locked
 *
 * Who has not asked for an acknowledgement hears of errors only.
 *
 * Return: 0, or the -errno of the first request that was refused.
 */
static int fuse_answer(const struct tb_fuse *fuse)
{
	union {
		struct nlmsghdr header;
		uint8_t bytes[1024];
	} answer;
	int first = 0;

	for (;;) {
		ssize_t len = recv(fuse->request_fd, &answer, sizeof(answer), MSG_DONTWAIT);
		const struct nlmsgerr *error = NLMSG_DATA(&answer.header);

		if (len < 0)
			return first;
		if ((size_t)len >= NLMSG_LENGTH(sizeof(*error)) &&
		    answer.header.nlmsg_type == NLMSG_ERROR && !first)
			first = error->error;
	}
}

/**
 * fuse_blow() - make the requests, if this is what they wait for
 * @fuse: the fuse
 * @header: a message
 *
 * The lock is held until the kernel has done them, so that whoever takes it knows that none is
 * under way.
 */
static void fuse_blow(struct tb_fuse *fuse, const struct nlmsghdr *header)
{
	pthread_mutex_lock(&fuse->lock);
	if (fuse->ifindex && fuse_concerns(header, fuse->ifindex)) {
		fuse->ifindex = 0;
		if (send(fuse->request_fd, fuse->request, fuse->len, 0) < 0)
			fuse->error = -errno;
		else
			fuse->error = fuse_answer(fuse);
		fuse->blown++;
	}
	pthread_mutex_unlock(&fuse->lock);
}

/**
 * fuse_read() - take in what the kernel tells
 * @fuse: the fuse
 *
 * What was lost (ENOBUFS), and a message that is too long, is left to the control plane, which
 * hears of it too.
 */
static void fuse_read(struct tb_fuse *fuse)
{
	ssize_t len;

	while ((len = recv(fuse->news_fd, fuse->news, NEWS_SIZE, MSG_DONTWAIT)) > 0) {
		const struct nlmsghdr *header = (const void *)fuse->news;

		for (uint32_t left = (uint32_t)len; NLMSG_OK(header, left);
		     header = NLMSG_NEXT(header, left))
			fuse_blow(fuse, header);
	}
}

/**
 * fuse_run() - the thread
 * @argument: the fuse
 *
 * Return: NULL.
 */
static void *fuse_run(void *argument)
{
	struct tb_fuse *fuse = argument;
	struct pollfd wait[] = {
		{.fd = fuse->news_fd, .events = POLLIN},
		{.fd = fuse->stop_fd, .events = POLLIN},
	};

	while (!wait[1].revents) {
		if (poll(wait, 2, -1) < 0 && errno != EINTR)
			break;
		if (wait[0].revents)
			fuse_read(fuse);
	}
	return NULL;
}

/**
 * fuse_free() - give back what was opened
 * @fuse: its thread is not running
 */
static void fuse_free(struct tb_fuse *fuse)
{
	if (fuse->news_fd >= 0)
		close(fuse->news_fd);
	if (fuse->request_fd >= 0)
		close(fuse->request_fd);
	if (fuse->stop_fd >= 0)
		close(fuse->stop_fd);
	pthread_mutex_destroy(&fuse->lock);
	free(fuse);
}

/**
 * tb_fuse_new() - make a fuse that waits for nothing yet, and start its thread
 * @news_fd: netlink socket, bound to RTNLGRP_LINK of the links' namespace; stays the caller's
 * @request_fd: netlink socket in the same namespace; stays the caller's
 *
 * Return: the fuse, or NULL with errno set.
 */
struct tb_fuse *tb_fuse_new(int news_fd, int request_fd)
{
	struct tb_fuse *fuse = calloc(1, sizeof(*fuse));
	int err;

	if (!fuse)
		return NULL;
	pthread_mutex_init(&fuse->lock, NULL);
	fuse->news_fd = fcntl(news_fd, F_DUPFD_CLOEXEC, 0);
	fuse->request_fd = fcntl(request_fd, F_DUPFD_CLOEXEC, 0);
	fuse->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fuse->news_fd < 0 || fuse->request_fd < 0 || fuse->stop_fd < 0)
		err = -errno;
	else
		err = thread_start(&fuse->thread, "tapbond-fuse", fuse_run, fuse);
	if (!err)
		return fuse;
	fuse_free(fuse);
	errno = -err;
	return NULL;
}

/**
 * tb_fuse_arm() - wait for the end of a link, instead of whatever was waited for before
 * @fuse: the fuse
 * @ifindex: the link; 0: wait for nothing
 * @request: netlink messages, without NLM_F_ACK
 * @len: their length
 *
 * When this returns, no earlier request is under way or will be. It may wait for one.
 *
 * Return: 0 or -EMSGSIZE.
 */
int tb_fuse_arm(struct tb_fuse *fuse, uint32_t ifindex, const uint8_t *request, uint32_t len)
{
	if (len > TB_FUSE_LEN)
		return -EMSGSIZE;
	pthread_mutex_lock(&fuse->lock);
	fuse->ifindex = ifindex;
	fuse->len = len;
	if (len)
		memcpy(fuse->request, request, len);
	pthread_mutex_unlock(&fuse->lock);
	return 0;
}

/**
 * tb_fuse_blown() - how often has it come to that?
 * @fuse: the fuse
 * @error: takes 0, or the -errno with which the kernel refused the last time
 *
 * Return: how often the requests were made.
 */
uint32_t tb_fuse_blown(struct tb_fuse *fuse, int *error)
{
	uint32_t blown;

	pthread_mutex_lock(&fuse->lock);
	blown = fuse->blown;
	*error = fuse->error;
	pthread_mutex_unlock(&fuse->lock);
	return blown;
}

/**
 * tb_fuse_free() - end the thread and give everything back
 * @fuse: may be NULL
 */
void tb_fuse_free(struct tb_fuse *fuse)
{
	if (!fuse)
		return;
	eventfd_write(fuse->stop_fd, 1);
	pthread_join(fuse->thread, NULL);
	fuse_free(fuse);
}
