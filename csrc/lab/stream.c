// SPDX-License-Identifier: Apache-2.0
/* A numbered TCP byte stream: each 8 bytes are their own index, so that the receiver can verify
 * them. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "traffic.h"

#define TCP_WORDS 16384
/* A paced sender wakes so often. */
#define TCP_TICK_NS 1000000LL

/**
 * struct lab_tcp - One stream with its record
 * @config:	How it was asked for
 * @state:	What it has come to; each field written by one thread, read by any
 * @sample:	The progress samples
 * @stop:	Asks both threads to stop
 * @tx_running:	@tx has to be joined
 * @rx_running:	@rx has to be joined
 * @tx:		The sender
 * @rx:		The receiver
 * @tx_word:	What the sender sends from
 * @rx_word:	What the receiver receives into, after the bytes of an incomplete word
 */
struct lab_tcp {
	struct lab_tcp_config config;
	struct lab_tcp_state state;
	struct lab_tcp_sample *sample;
	bool stop;
	bool tx_running;
	bool rx_running;
	pthread_t tx;
	pthread_t rx;
	uint64_t tx_word[TCP_WORDS];
	uint64_t rx_word[TCP_WORDS];
};

/**
 * tcp_wait() - Wait until a socket is ready, or for a slice
 * @fd:		The socket
 * @events:	POLLIN or POLLOUT
 */
static void tcp_wait(int fd, short events)
{
	struct pollfd pfd = {.fd = fd, .events = events};

	poll(&pfd, 1, LAB_SLICE_MS);
}

/**
 * tcp_due() - How many bytes the sender may send now
 * @tcp:	The stream
 * @start:	When it was started, CLOCK_MONOTONIC in ns
 *
 * Return: the count, limited to what the buffer holds
 */
static size_t tcp_due(const struct lab_tcp *tcp, int64_t start)
{
	const size_t most = sizeof(tcp->tx_word) - sizeof(tcp->tx_word[0]);
	const uint64_t least = tcp->config.rate * TCP_TICK_NS / LAB_NS_PER_S;
	uint64_t due, elapsed;

	if (!tcp->config.rate)
		return most;
	elapsed = lab_clock_ns(CLOCK_MONOTONIC) - start;
	due = (uint64_t)((double)elapsed * (double)tcp->config.rate / LAB_NS_PER_S);
	if (due <= tcp->state.sent)
		return 0;
	due -= tcp->state.sent;
	/* What became due during the last send alone would make a segment of a few bytes. */
	if (due < least && due < most)
		return 0;
	return due < most ? due : most;
}

/**
 * tcp_send_some() - Send the next bytes of the stream
 * @tcp:	The stream
 * @len:	How many at most
 *
 * Return: 0, -errno on failure, -EAGAIN if the socket takes nothing now
 */
static int tcp_send_some(struct lab_tcp *tcp, size_t len)
{
	uint64_t sent = tcp->state.sent, first = sent / sizeof(uint64_t);
	size_t skip = sent % sizeof(uint64_t);
	ssize_t n;

	for (size_t i = 0; i * sizeof(uint64_t) < skip + len; i++)
		tcp->tx_word[i] = first + i;
	n = send(tcp->config.tx_fd, (uint8_t *)tcp->tx_word + skip, len,
		 MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	__atomic_store_n(&tcp->state.sent, sent + n, __ATOMIC_RELEASE);
	return 0;
}

/**
 * tcp_send_body() - The sender
 * @arg:	The stream
 *
 * Return: NULL
 */
static void *tcp_send_body(void *arg)
{
	struct lab_tcp *tcp = arg;
	int64_t start;
	int rc = 0;

	prctl(PR_SET_TIMERSLACK, 1UL);
	start = lab_clock_ns(CLOCK_MONOTONIC);
	while (!lab_stopping(&tcp->stop)) {
		size_t len = tcp_due(tcp, start);

		if (!len) {
			lab_sleep_until(lab_clock_ns(CLOCK_MONOTONIC) + TCP_TICK_NS, &tcp->stop);
			continue;
		}
		rc = tcp_send_some(tcp, len);
		if (rc == -EAGAIN)
			tcp_wait(tcp->config.tx_fd, POLLOUT);
		else if (rc && rc != -EINTR)
			break;
	}
	if (rc && rc != -EAGAIN && rc != -EINTR)
		__atomic_store_n(&tcp->state.tx_error, rc, __ATOMIC_RELEASE);
	return NULL;
}

/**
 * tcp_sample() - Note progress in the current sample, or begin one
 * @tcp:	The stream, whose last sample, if all are used, lasts for ever
 * @now:	CLOCK_MONOTONIC, ns
 */
static void tcp_sample(struct lab_tcp *tcp, int64_t now)
{
	uint64_t n = tcp->state.samples;
	struct lab_tcp_sample *last = n ? &tcp->sample[n - 1] : NULL;

	if (!last ||
	    (now - last->first_ns >= tcp->config.sample_ns && n < tcp->config.samples_max)) {
		last = &tcp->sample[n++];
		last->first_ns = now;
	}
	last->last_ns = now;
	last->bytes = tcp->state.received;
	__atomic_store_n(&tcp->state.samples, n, __ATOMIC_RELEASE);
	__atomic_store_n(&tcp->state.progress_ns, now, __ATOMIC_RELEASE);
}

/**
 * tcp_receive_some() - Receive what is there and verify the words that are complete
 * @tcp:	The stream; its received count tells how many bytes of a word are left over
 *
 * Return: 0, -EAGAIN if nothing is there, -EPIPE at the end of file, -EBADMSG for wrong
 *	   contents, -errno on failure
 */
static int tcp_receive_some(struct lab_tcp *tcp)
{
	uint64_t received = tcp->state.received, first = received / sizeof(uint64_t);
	size_t over = received % sizeof(uint64_t), words;
	ssize_t n;

	n = recv(tcp->config.rx_fd, (uint8_t *)tcp->rx_word + over, sizeof(tcp->rx_word) - over,
		 MSG_DONTWAIT);
	if (n <= 0)
		return n ? -errno : -EPIPE;
	words = (over + n) / sizeof(uint64_t);
	for (size_t i = 0; i < words; i++) {
		if (tcp->rx_word[i] != first + i)
			return -EBADMSG;
	}
	tcp->rx_word[0] = tcp->rx_word[words % TCP_WORDS];
	__atomic_store_n(&tcp->state.received, received + n, __ATOMIC_RELEASE);
	tcp_sample(tcp, lab_clock_ns(CLOCK_MONOTONIC));
	return 0;
}

/**
 * tcp_receive_body() - The receiver
 * @arg:	The stream
 *
 * Return: NULL
 */
static void *tcp_receive_body(void *arg)
{
	struct lab_tcp *tcp = arg;

	while (!lab_stopping(&tcp->stop)) {
		int rc = tcp_receive_some(tcp);

		if (rc == -EAGAIN) {
			tcp_wait(tcp->config.rx_fd, POLLIN);
		} else if (rc && rc != -EINTR) {
			__atomic_store_n(&tcp->state.rx_error, rc, __ATOMIC_RELEASE);
			break;
		}
	}
	return NULL;
}

/**
 * lab_tcp_new() - Prepare a stream
 * @config:	How; copied. The descriptors stay the caller's, and must outlive the stream
 * @out:	Set to the stream
 *
 * Return: 0, -EINVAL without room for samples, -ENOMEM
 */
int lab_tcp_new(const struct lab_tcp_config *config, struct lab_tcp **out)
{
	struct lab_tcp *tcp;

	if (!config->samples_max)
		return -EINVAL;
	tcp = calloc(1, sizeof(*tcp));
	if (!tcp)
		return -ENOMEM;
	tcp->config = *config;
	tcp->sample = calloc(config->samples_max, sizeof(*tcp->sample));
	if (!tcp->sample) {
		free(tcp);
		return -ENOMEM;
	}
	*out = tcp;
	return 0;
}

/**
 * lab_tcp_start() - Start the receiver, then the sender
 * @tcp:	The stream
 *
 * Return: 0, -EALREADY if it was started before, -errno on failure, when no thread is left running
 */
int lab_tcp_start(struct lab_tcp *tcp)
{
	int rc;

	if (tcp->rx_running || tcp->stop)
		return -EALREADY;
	rc = lab_thread_start(&tcp->rx, tcp_receive_body, tcp);
	if (rc)
		return rc;
	tcp->rx_running = true;
	rc = lab_thread_start(&tcp->tx, tcp_send_body, tcp);
	if (rc) {
		lab_tcp_stop(tcp);
		return rc;
	}
	tcp->tx_running = true;
	return 0;
}

/**
 * lab_tcp_stop() - Stop both threads and wait for them, at most about LAB_SLICE_MS
 * @tcp:	The stream
 */
void lab_tcp_stop(struct lab_tcp *tcp)
{
	__atomic_store_n(&tcp->stop, true, __ATOMIC_RELEASE);
	if (tcp->tx_running)
		pthread_join(tcp->tx, NULL);
	if (tcp->rx_running)
		pthread_join(tcp->rx, NULL);
	tcp->tx_running = false;
	tcp->rx_running = false;
}

/**
 * lab_tcp_free() - Stop a stream and give back its memory
 * @tcp:	The stream, or NULL
 */
void lab_tcp_free(struct lab_tcp *tcp)
{
	if (!tcp)
		return;
	lab_tcp_stop(tcp);
	free(tcp->sample);
	free(tcp);
}

/**
 * lab_tcp_state() - What the stream has come to
 * @tcp:	The stream, which may be running
 * @out:	Filled in; each field is right by itself
 */
void lab_tcp_state(const struct lab_tcp *tcp, struct lab_tcp_state *out)
{
	out->sent = __atomic_load_n(&tcp->state.sent, __ATOMIC_ACQUIRE);
	out->received = __atomic_load_n(&tcp->state.received, __ATOMIC_ACQUIRE);
	out->samples = __atomic_load_n(&tcp->state.samples, __ATOMIC_ACQUIRE);
	out->progress_ns = __atomic_load_n(&tcp->state.progress_ns, __ATOMIC_ACQUIRE);
	out->tx_error = __atomic_load_n(&tcp->state.tx_error, __ATOMIC_ACQUIRE);
	out->rx_error = __atomic_load_n(&tcp->state.rx_error, __ATOMIC_ACQUIRE);
}

/**
 * lab_tcp_samples() - The progress samples
 * @tcp:	The stream; the last sample may still change while it runs
 *
 * Return: as many samples as lab_tcp_state() says
 */
const struct lab_tcp_sample *lab_tcp_samples(const struct lab_tcp *tcp)
{
	return tcp->sample;
}
