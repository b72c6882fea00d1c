// SPDX-License-Identifier: Apache-2.0
/* Numbered UDP datagrams: a thread that sends at a steady rate and one that notes what arrives
 * when. */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "traffic.h"

#define UDP_BATCH 64
#define UDP_RCVBUF (16 << 20)
/* Room for duplicates: twice what is sent, and some for the shortest flows. */
#define UDP_RECEIVED_MAX(sent_max) (2 * (sent_max) + 4096)

/**
 * struct lab_udp - One flow with its records
 * @config:	How it was asked for
 * @sent_ns:	For each number, CLOCK_MONOTONIC right before send(2)
 * @error:	For each number, 0 or the -errno with which send(2) refused it
 * @received_seq: The number of each datagram received, in order of arrival
 * @received_ns: When it arrived (the kernel's receive time stamp, as CLOCK_MONOTONIC)
 * @sent:	Numbers used so far, whether refused or not
 * @received:	Receptions recorded so far
 * @overflow:	Datagrams lost in front of the receiving socket (SO_RXQ_OVFL)
 * @unrecorded:	Receptions for which there was no room
 * @tx_stop:	Asks the sender to stop
 * @rx_stop:	Asks the receiver to stop
 * @tx_running:	@tx has to be joined
 * @rx_running:	@rx has to be joined
 * @tx:		The sender
 * @rx:		The receiver
 * @payload:	What the sender sends
 */
struct lab_udp {
	struct lab_udp_config config;
	int64_t *sent_ns;
	int32_t *error;
	uint64_t *received_seq;
	int64_t *received_ns;
	uint64_t sent;
	uint64_t received;
	uint64_t overflow;
	uint64_t unrecorded;
	bool tx_stop;
	bool rx_stop;
	bool tx_running;
	bool rx_running;
	pthread_t tx;
	pthread_t rx;
	uint8_t payload[LAB_UDP_SIZE_MAX];
};

/**
 * struct udp_batch - Where one recvmmsg(2) puts up to UDP_BATCH datagrams
 * @msgs:	The messages
 * @iov:	One piece each: longer payloads are truncated to the header
 * @datagram:	The headers
 * @control:	SCM_TIMESTAMPNS and SO_RXQ_OVFL
 */
struct udp_batch {
	struct mmsghdr msgs[UDP_BATCH];
	struct iovec iov[UDP_BATCH];
	struct lab_datagram datagram[UDP_BATCH];
	union {
		char bytes[CMSG_SPACE(sizeof(struct timespec)) + CMSG_SPACE(sizeof(uint32_t))];
		struct cmsghdr align;
	} control[UDP_BATCH];
};

/**
 * lab_thread_start() - Start a thread that takes no signals: those are Python's main thread's
 * @thread:	Set to the thread
 * @body:	What it runs
 * @arg:	Its argument
 *
 * Return: 0, -errno on failure
 */
int lab_thread_start(pthread_t *thread, void *(*body)(void *), void *arg)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(thread, NULL, body, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -rc;
}

/**
 * udp_send_one() - Send one datagram and record how that went
 * @udp:	The flow
 * @seq:	Its number
 *
 * An ICMP error that an earlier datagram drew is reported by the next send(2), which then sends
 * nothing (udp(7)); only a second try tells about this datagram.
 */
static void udp_send_one(struct lab_udp *udp, uint64_t seq)
{
	struct lab_datagram *datagram = (struct lab_datagram *)udp->payload;
	int64_t now = lab_clock_ns(CLOCK_MONOTONIC);
	ssize_t rc;

	datagram->seq = seq;
	datagram->sent_ns = now;
	rc = send(udp->config.tx_fd, datagram, udp->config.size, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (rc < 0 && errno != EAGAIN)
		rc = send(udp->config.tx_fd, datagram, udp->config.size,
			  MSG_DONTWAIT | MSG_NOSIGNAL);
	udp->sent_ns[seq] = now;
	udp->error[seq] = rc < 0 ? -errno : 0;
	__atomic_store_n(&udp->sent, seq + 1, __ATOMIC_RELEASE);
}

/**
 * udp_send_body() - The sender: absolute deadlines, so being late is made up for by a burst
 * @arg:	The flow
 *
 * Return: NULL
 */
static void *udp_send_body(void *arg)
{
	struct lab_udp *udp = arg;
	int64_t start;
	uint64_t seq;

	prctl(PR_SET_TIMERSLACK, 1UL);
	start = lab_clock_ns(CLOCK_MONOTONIC);
	for (seq = 0; seq < udp->config.sent_max; seq++) {
		int64_t due = start + (int64_t)(seq * LAB_NS_PER_S / udp->config.rate);

		if (!lab_sleep_until(due, &udp->tx_stop))
			break;
		udp_send_one(udp, seq);
	}
	return NULL;
}

/**
 * udp_batch_prepare() - Make a batch ready for recvmmsg(2), which overwrites the lengths
 * @batch:	The batch
 */
static void udp_batch_prepare(struct udp_batch *batch)
{
	for (int i = 0; i < UDP_BATCH; i++) {
		struct msghdr *hdr = &batch->msgs[i].msg_hdr;

		batch->iov[i].iov_base = &batch->datagram[i];
		batch->iov[i].iov_len = sizeof(batch->datagram[i]);
		memset(hdr, 0, sizeof(*hdr));
		hdr->msg_iov = &batch->iov[i];
		hdr->msg_iovlen = 1;
		hdr->msg_control = &batch->control[i];
		hdr->msg_controllen = sizeof(batch->control[i]);
	}
}

/**
 * udp_arrival() - Read what the kernel noted beside a datagram
 * @udp:	The flow, whose overflow counter is updated
 * @hdr:	The message
 * @now:	CLOCK_REALTIME, for a kernel that gives no time stamp
 *
 * Return: when it arrived, CLOCK_REALTIME in ns
 */
static int64_t udp_arrival(struct lab_udp *udp, struct msghdr *hdr, int64_t now)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(hdr); c; c = CMSG_NXTHDR(hdr, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_TIMESTAMPNS) {
			struct timespec ts;

			memcpy(&ts, CMSG_DATA(c), sizeof(ts));
			now = ts.tv_sec * LAB_NS_PER_S + ts.tv_nsec;
		} else if (c->cmsg_type == SO_RXQ_OVFL) {
			uint32_t drops;

			memcpy(&drops, CMSG_DATA(c), sizeof(drops));
			__atomic_store_n(&udp->overflow, drops, __ATOMIC_RELAXED);
		}
	}
	return now;
}

/**
 * udp_record() - Record one reception, if it is one of this flow's datagrams
 * @udp:	The flow
 * @datagram:	The header received
 * @len:	How much of it was received
 * @when:	CLOCK_MONOTONIC, ns
 */
static void udp_record(struct lab_udp *udp, const struct lab_datagram *datagram, size_t len,
		       int64_t when)
{
	uint64_t n = udp->received;

	if (len < sizeof(*datagram) || datagram->magic != LAB_UDP_MAGIC ||
	    datagram->flow != udp->config.flow || datagram->seq >= udp->config.sent_max)
		return;
	if (n == UDP_RECEIVED_MAX(udp->config.sent_max)) {
		__atomic_add_fetch(&udp->unrecorded, 1, __ATOMIC_RELAXED);
		return;
	}
	udp->received_seq[n] = datagram->seq;
	udp->received_ns[n] = when;
	__atomic_store_n(&udp->received, n + 1, __ATOMIC_RELEASE);
}

/**
 * udp_receive_batch() - Receive and record what is there
 * @udp:	The flow
 * @batch:	Room for it
 *
 * Return: how many datagrams there were, -1 if none
 */
static int udp_receive_batch(struct lab_udp *udp, struct udp_batch *batch)
{
	int64_t real, offset;
	int n;

	udp_batch_prepare(batch);
	n = recvmmsg(udp->config.rx_fd, batch->msgs, UDP_BATCH, MSG_DONTWAIT, NULL);
	real = lab_clock_ns(CLOCK_REALTIME);
	offset = lab_clock_ns(CLOCK_MONOTONIC) - real;
	for (int i = 0; i < n; i++) {
		int64_t when = udp_arrival(udp, &batch->msgs[i].msg_hdr, real) + offset;

		udp_record(udp, &batch->datagram[i], batch->msgs[i].msg_len, when);
	}
	return n;
}

/**
 * udp_receive_body() - The receiver
 * @arg:	The flow
 *
 * Return: NULL
 */
static void *udp_receive_body(void *arg)
{
	struct lab_udp *udp = arg;
	struct pollfd pfd = {.fd = udp->config.rx_fd, .events = POLLIN};
	struct udp_batch batch;

	while (!lab_stopping(&udp->rx_stop)) {
		if (poll(&pfd, 1, LAB_SLICE_MS) <= 0)
			continue;
		while (udp_receive_batch(udp, &batch) == UDP_BATCH)
			;
	}
	return NULL;
}

/**
 * udp_prepare_receiver() - Ask for arrival times, the overflow count and a buffer that lasts
 * @fd:		The receiving socket
 *
 * SO_RCVBUFFORCE needs CAP_NET_ADMIN in the initial user namespace; elsewhere net.core.rmem_max
 * is the limit, and SO_RXQ_OVFL tells if that was too little.
 *
 * Return: 0, -errno on failure
 */
static int udp_prepare_receiver(int fd)
{
	int on = 1, size = UDP_RCVBUF;

	if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof(on)))
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)))
		return -errno;
	return 0;
}

/**
 * udp_allocate() - Allocate the records
 * @udp:	The flow
 *
 * Return: 0, -ENOMEM
 */
static int udp_allocate(struct lab_udp *udp)
{
	uint64_t sent = udp->config.sent_max, received = UDP_RECEIVED_MAX(sent);

	udp->sent_ns = calloc(sent, sizeof(*udp->sent_ns));
	udp->error = calloc(sent, sizeof(*udp->error));
	udp->received_seq = calloc(received, sizeof(*udp->received_seq));
	udp->received_ns = calloc(received, sizeof(*udp->received_ns));
	if (!udp->sent_ns || !udp->error || !udp->received_seq || !udp->received_ns)
		return -ENOMEM;
	return 0;
}

/**
 * lab_udp_new() - Prepare a flow
 * @config:	How; copied. The descriptors stay the caller's, and must outlive the flow
 * @out:	Set to the flow
 *
 * Return: 0, -EINVAL for a rate, size or length out of range, -errno on failure
 */
int lab_udp_new(const struct lab_udp_config *config, struct lab_udp **out)
{
	struct lab_datagram header = {.magic = LAB_UDP_MAGIC, .flow = config->flow};
	struct lab_udp *udp;
	int rc;

	if (!config->rate || !config->sent_max || config->size < LAB_UDP_SIZE_MIN ||
	    config->size > LAB_UDP_SIZE_MAX)
		return -EINVAL;
	udp = calloc(1, sizeof(*udp));
	if (!udp)
		return -ENOMEM;
	udp->config = *config;
	memcpy(udp->payload, &header, sizeof(header));
	rc = udp_allocate(udp);
	if (!rc)
		rc = udp_prepare_receiver(config->rx_fd);
	if (rc) {
		lab_udp_free(udp);
		return rc;
	}
	*out = udp;
	return 0;
}

/**
 * lab_udp_start() - Start the receiver, then the sender
 * @udp:	The flow
 *
 * Return: 0, -EALREADY if it was started before, -errno on failure, when no thread is left running
 */
int lab_udp_start(struct lab_udp *udp)
{
	int rc;

	if (udp->rx_running || udp->rx_stop)
		return -EALREADY;
	rc = lab_thread_start(&udp->rx, udp_receive_body, udp);
	if (rc)
		return rc;
	udp->rx_running = true;
	rc = lab_thread_start(&udp->tx, udp_send_body, udp);
	if (rc) {
		lab_udp_stop(udp);
		return rc;
	}
	udp->tx_running = true;
	return 0;
}

/**
 * lab_udp_stop_sending() - Stop the sender and wait for it, at most about LAB_SLICE_MS
 * @udp:	The flow
 */
void lab_udp_stop_sending(struct lab_udp *udp)
{
	__atomic_store_n(&udp->tx_stop, true, __ATOMIC_RELEASE);
	if (udp->tx_running)
		pthread_join(udp->tx, NULL);
	udp->tx_running = false;
}

/**
 * lab_udp_stop() - Stop both threads and wait for them, at most about twice LAB_SLICE_MS
 * @udp:	The flow
 */
void lab_udp_stop(struct lab_udp *udp)
{
	lab_udp_stop_sending(udp);
	__atomic_store_n(&udp->rx_stop, true, __ATOMIC_RELEASE);
	if (udp->rx_running)
		pthread_join(udp->rx, NULL);
	udp->rx_running = false;
}

/**
 * lab_udp_free() - Stop a flow and give back its memory
 * @udp:	The flow, or NULL
 */
void lab_udp_free(struct lab_udp *udp)
{
	if (!udp)
		return;
	lab_udp_stop(udp);
	free(udp->received_ns);
	free(udp->received_seq);
	free(udp->error);
	free(udp->sent_ns);
	free(udp);
}

/**
 * lab_udp_sent() - How many numbers have been used
 * @udp:	The flow, which may be running
 *
 * Return: the count, up to which lab_udp_sent_ns() and lab_udp_error() are filled in
 */
uint64_t lab_udp_sent(const struct lab_udp *udp)
{
	return __atomic_load_n(&udp->sent, __ATOMIC_ACQUIRE);
}

/**
 * lab_udp_received() - How many receptions there were
 * @udp:	The flow, which may be running
 *
 * Return: the count, up to which lab_udp_received_seq() and lab_udp_received_ns() are filled in
 */
uint64_t lab_udp_received(const struct lab_udp *udp)
{
	return __atomic_load_n(&udp->received, __ATOMIC_ACQUIRE);
}

/**
 * lab_udp_instrument_lost() - How many receptions the instrument itself missed
 * @udp:	The flow, which may be running
 *
 * Return: the count: the socket's buffer or the records were full
 */
uint64_t lab_udp_instrument_lost(const struct lab_udp *udp)
{
	return __atomic_load_n(&udp->overflow, __ATOMIC_RELAXED) +
	       __atomic_load_n(&udp->unrecorded, __ATOMIC_RELAXED);
}

/**
 * lab_udp_sent_ns() - When each number was sent
 * @udp:	The flow
 *
 * Return: lab_udp_sent() times, CLOCK_MONOTONIC in ns
 */
const int64_t *lab_udp_sent_ns(const struct lab_udp *udp)
{
	return udp->sent_ns;
}

/**
 * lab_udp_error() - How sending each number went
 * @udp:	The flow
 *
 * Return: lab_udp_sent() results: 0 or -errno
 */
const int32_t *lab_udp_error(const struct lab_udp *udp)
{
	return udp->error;
}

/**
 * lab_udp_received_seq() - What was received, in order of arrival
 * @udp:	The flow
 *
 * Return: lab_udp_received() numbers
 */
const uint64_t *lab_udp_received_seq(const struct lab_udp *udp)
{
	return udp->received_seq;
}

/**
 * lab_udp_received_ns() - When it was received
 * @udp:	The flow
 *
 * Return: lab_udp_received() times, CLOCK_MONOTONIC in ns
 */
const int64_t *lab_udp_received_ns(const struct lab_udp *udp)
{
	return udp->received_ns;
}
