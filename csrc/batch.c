// SPDX-License-Identifier: Apache-2.0
/*
 * batch.c - fill a batch from the TAP or from a slave, and send it over a slave.
 */
#include "batch.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vlan.h"

/*
 * The largest frame is a super-frame of 64 KiB with its headers. One buffer is 17 pages and not a
 * power of two, so that the first lines of all buffers do not fall into the same cache set.
 */
#define BUFFER_LEN (17 * 4096)
/* Room for a tag in front; keeps the frame on its own cache line. */
#define HEADROOM 64
#define FRAME_MAX (BUFFER_LEN - HEADROOM)
#define EXPECT_MIN 4

/**
 * batch_home() - where the frame of one buffer begins
 * @batch: the batch
 * @i: which buffer
 *
 * Return: the address.
 */
static uint8_t *batch_home(struct batch *batch, unsigned int i)
{
	return batch->memory + (size_t)i * BUFFER_LEN + HEADROOM;
}

/**
 * batch_init() - take the memory of a batch and tie its headers together
 * @batch: uninitialised
 *
 * Return: 0 or -errno.
 */
int batch_init(struct batch *batch)
{
	memset(batch, 0, sizeof(*batch));
	batch->memory = mmap(NULL, (size_t)BATCH_FRAMES * BUFFER_LEN, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (batch->memory == MAP_FAILED) {
		batch->memory = NULL;
		return -errno;
	}
	batch->expect = BATCH_FRAMES;
	for (unsigned int i = 0; i < BATCH_FRAMES; i++) {
		batch->msg[i].msg_hdr.msg_iov = &batch->iov[i];
		batch->msg[i].msg_hdr.msg_iovlen = 1;
	}
	return 0;
}

/**
 * batch_free() - give the memory back
 * @batch: may be zeroed or already freed
 */
void batch_free(struct batch *batch)
{
	if (batch->memory)
		munmap(batch->memory, (size_t)BATCH_FRAMES * BUFFER_LEN);
	batch->memory = NULL;
}

/**
 * batch_foresee() - choose how many frames to ask for next
 * @batch: just filled
 * @bytes: what it holds
 *
 * Small frames come 64 at a time, super-frames only as many as stay in the cache.
 */
static void batch_foresee(struct batch *batch, size_t bytes)
{
	size_t frames = bytes ? (size_t)BATCH_BYTES * batch->count / bytes : BATCH_FRAMES;

	if (frames < EXPECT_MIN)
		frames = EXPECT_MIN;
	batch->expect = frames < BATCH_FRAMES ? frames : BATCH_FRAMES;
}

/**
 * batch_read_tap() - read what the host sends, one frame a call as a TAP gives it
 * @batch: whatever it held is overwritten
 * @tap_fd: non-blocking
 *
 * Return: number of frames (0: nothing waits), or -errno when the TAP failed.
 */
int batch_read_tap(struct batch *batch, int tap_fd)
{
	size_t bytes = 0;
	ssize_t len = 0;

	batch->first = 0;
	batch->count = 0;
	while (batch->count < BATCH_FRAMES && bytes < BATCH_BYTES) {
		struct frame *frame = &batch->frame[batch->count];

		frame->data = batch_home(batch, batch->count);
		do
			len = read(tap_fd, frame->data, FRAME_MAX);
		while (len < 0 && errno == EINTR);
		if (len <= 0)
			break;
		frame->len = len;
		bytes += len;
		batch->count++;
	}
	if (batch->count || (len < 0 && errno == EAGAIN))
		return batch->count;
	return len < 0 ? -errno : -EPIPE;
}

/**
 * batch_retag() - put the VLAN tag that came as auxdata back into the frame
 * @frame: as received
 * @header: its message header
 */
static void batch_retag(struct frame *frame, struct msghdr *header)
{
	struct tpacket_auxdata aux;
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(header); cmsg; cmsg = CMSG_NXTHDR(header, cmsg)) {
		if (cmsg->cmsg_level != SOL_PACKET || cmsg->cmsg_type != PACKET_AUXDATA)
			continue;
		memcpy(&aux, CMSG_DATA(cmsg), sizeof(aux));
		if (!(aux.tp_status & TP_STATUS_VLAN_VALID))
			return;
		/* Kernels before 3.14 do not tell the protocol: it is 802.1Q then. */
		if (tb_vlan_insert(frame->data, frame->len,
				   aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid
									     : ETH_P_8021Q,
				   aux.tp_vlan_tci))
			return;
		frame->data -= VLAN_TAG_LEN;
		frame->len += VLAN_TAG_LEN;
		return;
	}
}

/**
 * batch_receive() - receive what waits on a slave
 * @batch: whatever it held is overwritten
 * @fd: a packet socket
 *
 * A frame that did not fit comes out with length 0.
 *
 * Return: number of frames (0: nothing waits), or -errno.
 */
int batch_receive(struct batch *batch, int fd)
{
	size_t bytes = 0;
	int n;

	for (unsigned int i = 0; i < batch->expect; i++) {
		batch->frame[i].data = batch_home(batch, i);
		batch->iov[i].iov_base = batch->frame[i].data;
		batch->iov[i].iov_len = FRAME_MAX;
		batch->msg[i].msg_hdr.msg_control = batch->control[i].space;
		batch->msg[i].msg_hdr.msg_controllen = sizeof(batch->control[i].space);
	}
	do
		n = recvmmsg(fd, batch->msg, batch->expect, MSG_DONTWAIT, NULL);
	while (n < 0 && errno == EINTR);

	batch->first = 0;
	batch->count = n > 0 ? n : 0;
	for (unsigned int i = 0; i < batch->count; i++) {
		struct frame *frame = &batch->frame[i];

		frame->len = batch->msg[i].msg_len;
		bytes += frame->len;
		if (batch->msg[i].msg_hdr.msg_flags & MSG_TRUNC)
			frame->len = 0;
		else
			batch_retag(frame, &batch->msg[i].msg_hdr);
	}
	if (n > 0)
		batch_foresee(batch, bytes);
	return n < 0 && errno != EAGAIN ? -errno : (int)batch->count;
}

/**
 * batch_send() - send the frames from batch->first on over a slave
 * @batch: @first is not moved here: the caller counts first
 * @fd: a packet socket
 *
 * Return: how many were taken (at least one), or -errno for the frame at batch->first.
 */
int batch_send(struct batch *batch, int fd)
{
	unsigned int first = batch->first;
	int n;

	for (unsigned int i = first; i < batch->count; i++) {
		batch->iov[i].iov_base = batch->frame[i].data;
		batch->iov[i].iov_len = batch->frame[i].len;
		batch->msg[i].msg_hdr.msg_control = NULL;
		batch->msg[i].msg_hdr.msg_controllen = 0;
	}
	do
		n = sendmmsg(fd, &batch->msg[first], batch->count - first,
			     MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}
