// SPDX-License-Identifier: Apache-2.0
/* UDP as fast as it goes: a thread that sends and one that counts what arrives, and what both cost.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "bench.h"
#include "traffic.h"

#define FLOOD_BATCH 64
#define FLOOD_RCVBUF (16 << 20)
#define FLOOD_SNDBUF (4 << 20)
/* A UDP super-frame: 16 bits of length, less the headers of IPv6 and UDP. */
#define FLOOD_PAYLOAD_MAX 65000u

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/**
 * struct flood_batch - Up to FLOOD_BATCH messages, all in one piece of memory: nobody reads it
 * @msgs:	The messages
 * @iov:	Their one piece each
 * @control:	SO_RXQ_OVFL and UDP_GRO
 * @payload:	What is sent, or where what arrives ends
 */
struct flood_batch {
	struct mmsghdr msgs[FLOOD_BATCH];
	struct iovec iov[FLOOD_BATCH];
	union {
		char bytes[2 * CMSG_SPACE(sizeof(uint32_t))];
		struct cmsghdr align;
	} control[FLOOD_BATCH];
	uint8_t payload[FLOOD_PAYLOAD_MAX];
};

/**
 * struct lab_flood - One flood
 * @config:	How it was asked for
 * @state:	What it has come to; each field written by one thread, read by any
 * @stop:	Asks both threads to stop
 * @tx_running:	@tx has to be joined
 * @rx_running:	@rx has to be joined
 * @tx:		The sender
 * @rx:		The sink
 * @tx_batch:	The sender's
 * @rx_batch:	The sink's
 */
struct lab_flood {
	struct lab_flood_config config;
	struct lab_flood_state state;
	bool stop;
	bool tx_running;
	bool rx_running;
	pthread_t tx;
	pthread_t rx;
	struct flood_batch tx_batch;
	struct flood_batch rx_batch;
};

/**
 * flood_prepare() - Make a batch ready for sendmmsg(2) or recvmmsg(2)
 * @batch:	The batch
 * @len:	Bytes of each message
 * @control:	Whether to ask for what the kernel notes beside them
 */
static void flood_prepare(struct flood_batch *batch, size_t len, bool control)
{
	for (int i = 0; i < FLOOD_BATCH; i++) {
		struct msghdr *hdr = &batch->msgs[i].msg_hdr;

		batch->iov[i].iov_base = batch->payload;
		batch->iov[i].iov_len = len;
		memset(hdr, 0, sizeof(*hdr));
		hdr->msg_iov = &batch->iov[i];
		hdr->msg_iovlen = 1;
		hdr->msg_control = control ? &batch->control[i] : NULL;
		hdr->msg_controllen = control ? sizeof(batch->control[i]) : 0;
	}
}

/**
 * flood_cpu_ns() - The processor time of this thread
 *
 * Return: ns
 */
static int64_t flood_cpu_ns(void)
{
	return lab_clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

/**
 * flood_send_body() - The sender
 * @arg:	The flood
 *
 * A full send buffer blocks for a slice; a full queue of the interface shows as ENOBUFS where the
 * socket asks for it, else the frame is dropped without a word, as for any program.
 *
 * Return: NULL
 */
static void *flood_send_body(void *arg)
{
	struct lab_flood *flood = arg;
	uint32_t each = flood->config.segment ? flood->config.segment : 1;
	unsigned int messages = flood->config.segment ? 1 : FLOOD_BATCH;

	flood_prepare(&flood->tx_batch, (size_t)flood->config.size * each, false);
	while (!lab_stopping(&flood->stop)) {
		int n = sendmmsg(flood->config.tx_fd, flood->tx_batch.msgs, messages, MSG_NOSIGNAL);

		if (n > 0) {
			__atomic_add_fetch(&flood->state.sent, (uint64_t)n * each,
					   __ATOMIC_RELAXED);
		} else if (errno == EAGAIN || errno == ENOBUFS || errno == ECONNREFUSED ||
			   errno == EINTR) {
			__atomic_add_fetch(&flood->state.refused, each, __ATOMIC_RELAXED);
		} else {
			__atomic_store_n(&flood->state.tx_error, -errno, __ATOMIC_RELEASE);
			break;
		}
		__atomic_store_n(&flood->state.tx_cpu_ns, flood_cpu_ns(), __ATOMIC_RELAXED);
	}
	return NULL;
}

/**
 * flood_note_overflow() - Read how many datagrams found the sink's buffer full
 * @flood:	The flood
 * @hdr:	A message received
 */
static void flood_note_overflow(struct lab_flood *flood, struct msghdr *hdr)
{
	uint32_t drops;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(hdr); c; c = CMSG_NXTHDR(hdr, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SO_RXQ_OVFL)
			continue;
		memcpy(&drops, CMSG_DATA(c), sizeof(drops));
		__atomic_store_n(&flood->state.overflow, drops, __ATOMIC_RELAXED);
	}
}

/**
 * flood_receive_body() - The sink: takes what is there, waits for at most a slice
 * @arg:	The flood
 *
 * Return: NULL
 */
static void *flood_receive_body(void *arg)
{
	struct lab_flood *flood = arg;
	struct flood_batch *batch = &flood->rx_batch;

	while (!lab_stopping(&flood->stop)) {
		uint64_t bytes = 0;
		int n;

		flood_prepare(batch, sizeof(batch->payload), true);
		n = recvmmsg(flood->config.rx_fd, batch->msgs, FLOOD_BATCH, MSG_WAITFORONE, NULL);
		for (int i = 0; i < n; i++)
			bytes += batch->msgs[i].msg_len;
		if (n > 0) {
			flood_note_overflow(flood, &batch->msgs[n - 1].msg_hdr);
			__atomic_add_fetch(&flood->state.received, bytes, __ATOMIC_RELAXED);
		}
		__atomic_store_n(&flood->state.rx_cpu_ns, flood_cpu_ns(), __ATOMIC_RELAXED);
	}
	return NULL;
}

/**
 * flood_buffer() - Ask for a socket buffer that lasts
 * @fd:		The socket
 * @force:	SO_RCVBUFFORCE or SO_SNDBUFFORCE, for CAP_NET_ADMIN of the initial user namespace
 * @option:	The same within what net.core.*mem_max allows
 * @size:	Bytes
 *
 * Return: 0, -errno on failure
 */
static int flood_buffer(int fd, int force, int option, int size)
{
	if (setsockopt(fd, SOL_SOCKET, force, &size, sizeof(size)) &&
	    setsockopt(fd, SOL_SOCKET, option, &size, sizeof(size)))
		return -errno;
	return 0;
}

/**
 * flood_prepare_sockets() - Time limits, buffers, segmentation
 * @config:	With the sockets
 *
 * Return: 0, -errno on failure; -ENOPROTOOPT without UDP_SEGMENT (before Linux 4.18)
 */
static int flood_prepare_sockets(const struct lab_flood_config *config)
{
	const struct timeval slice = {.tv_usec = LAB_SLICE_MS * 1000};
	int on = 1, segment = config->size, rc;

	if (setsockopt(config->tx_fd, SOL_SOCKET, SO_SNDTIMEO, &slice, sizeof(slice)) ||
	    setsockopt(config->rx_fd, SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof(slice)) ||
	    setsockopt(config->rx_fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof(on)))
		return -errno;
	rc = flood_buffer(config->rx_fd, SO_RCVBUFFORCE, SO_RCVBUF, FLOOD_RCVBUF);
	if (!rc)
		rc = flood_buffer(config->tx_fd, SO_SNDBUFFORCE, SO_SNDBUF, FLOOD_SNDBUF);
	if (rc || !config->segment)
		return rc;
	if (setsockopt(config->tx_fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment)) ||
	    setsockopt(config->rx_fd, IPPROTO_UDP, UDP_GRO, &on, sizeof(on)))
		return -errno;
	return 0;
}

/**
 * lab_flood_new() - Prepare a flood
 * @config:	How; copied. The descriptors stay the caller's, and must outlive the flood
 * @out:	Set to the flood
 *
 * Return: 0, -EINVAL for a size out of range, -ENOMEM, -errno on failure
 */
int lab_flood_new(const struct lab_flood_config *config, struct lab_flood **out)
{
	uint64_t each = config->segment ? config->segment : 1;
	struct lab_flood *flood;
	int rc;

	if (!config->size || config->size * each > FLOOD_PAYLOAD_MAX)
		return -EINVAL;
	rc = flood_prepare_sockets(config);
	if (rc)
		return rc;
	flood = calloc(1, sizeof(*flood));
	if (!flood)
		return -ENOMEM;
	flood->config = *config;
	*out = flood;
	return 0;
}

/**
 * lab_flood_start() - Start the sink, then the sender
 * @flood:	The flood
 *
 * Return: 0, -EALREADY if it was started before, -errno on failure, when no thread is left running
 */
int lab_flood_start(struct lab_flood *flood)
{
	int rc;

	if (flood->rx_running || flood->stop)
		return -EALREADY;
	rc = lab_thread_start(&flood->rx, flood_receive_body, flood);
	if (rc)
		return rc;
	flood->rx_running = true;
	rc = lab_thread_start(&flood->tx, flood_send_body, flood);
	if (rc) {
		lab_flood_stop(flood);
		return rc;
	}
	flood->tx_running = true;
	return 0;
}

/**
 * lab_flood_state() - What the flood has come to
 * @flood:	The flood, which may be running
 * @out:	Filled in
 */
void lab_flood_state(struct lab_flood *flood, struct lab_flood_state *out)
{
	const struct lab_flood_state *state = &flood->state;

	out->sent = __atomic_load_n(&state->sent, __ATOMIC_RELAXED);
	out->refused = __atomic_load_n(&state->refused, __ATOMIC_RELAXED);
	out->received = __atomic_load_n(&state->received, __ATOMIC_RELAXED);
	out->overflow = __atomic_load_n(&state->overflow, __ATOMIC_RELAXED);
	out->tx_cpu_ns = __atomic_load_n(&state->tx_cpu_ns, __ATOMIC_RELAXED);
	out->rx_cpu_ns = __atomic_load_n(&state->rx_cpu_ns, __ATOMIC_RELAXED);
	out->tx_error = __atomic_load_n(&state->tx_error, __ATOMIC_ACQUIRE);
	out->at_ns = lab_clock_ns(CLOCK_MONOTONIC);
}

/**
 * lab_flood_stop() - Stop both threads and wait for them, at most about twice LAB_SLICE_MS
 * @flood:	The flood
 */
void lab_flood_stop(struct lab_flood *flood)
{
	__atomic_store_n(&flood->stop, true, __ATOMIC_RELEASE);
	if (flood->tx_running)
		pthread_join(flood->tx, NULL);
	if (flood->rx_running)
		pthread_join(flood->rx, NULL);
	flood->tx_running = false;
	flood->rx_running = false;
}

/**
 * lab_flood_free() - Stop a flood and give back its memory
 * @flood:	The flood, or NULL
 */
void lab_flood_free(struct lab_flood *flood)
{
	if (!flood)
		return;
	lab_flood_stop(flood);
	free(flood);
}
