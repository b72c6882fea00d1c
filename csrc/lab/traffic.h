/* SPDX-License-Identifier: Apache-2.0 */
/* Numbered traffic for the lab, driven from Python through cffi. */
#ifndef TAPBOND_LAB_TRAFFIC_H
#define TAPBOND_LAB_TRAFFIC_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define LAB_NS_PER_S 1000000000LL
/* The longest any thread here sleeps or polls before it looks at its stop flag. */
#define LAB_SLICE_MS 20

/* build_traffic.py gives the text between the two cffi marks to cffi: plain declarations only. */
/* cffi: begin */
struct lab_udp_config {
	int tx_fd;	   /* connected to where rx_fd is bound */
	int rx_fd;	   /* bound */
	uint8_t flow;	   /* datagrams of other flows are not counted */
	uint32_t size;	   /* payload bytes, LAB_UDP_SIZE_MIN..LAB_UDP_SIZE_MAX */
	uint32_t rate;	   /* datagrams a second, at least 1 */
	uint64_t sent_max; /* the sender ends by itself after so many */
};

struct lab_tcp_config {
	int tx_fd;	      /* connected to rx_fd */
	int rx_fd;	      /* accepted */
	uint64_t rate;	      /* bytes a second, 0 = as fast as possible */
	uint64_t samples_max; /* how many progress samples are kept */
	int64_t sample_ns;    /* how long one sample lasts */
};

/* Receptions within sample_ns of each other, so that the silence between two samples is exact. */
struct lab_tcp_sample {
	int64_t first_ns;
	int64_t last_ns;
	uint64_t bytes; /* received and verified in all by last_ns */
};

struct lab_tcp_state {
	uint64_t sent;	     /* bytes handed to the socket */
	uint64_t received;   /* bytes received and verified */
	uint64_t samples;    /* how many are filled in */
	int64_t progress_ns; /* CLOCK_MONOTONIC of the last reception, 0 before the first */
	int tx_error;	     /* -errno that ended the sender, or 0 */
	int rx_error;	     /* the same; -EBADMSG wrong contents, -EPIPE end of file */
};

struct lab_udp;
struct lab_tcp;

int lab_udp_new(const struct lab_udp_config *config, struct lab_udp **out);
int lab_udp_start(struct lab_udp *udp);
void lab_udp_stop_sending(struct lab_udp *udp);
void lab_udp_stop(struct lab_udp *udp);
void lab_udp_free(struct lab_udp *udp);
uint64_t lab_udp_sent(const struct lab_udp *udp);
uint64_t lab_udp_received(const struct lab_udp *udp);
uint64_t lab_udp_instrument_lost(const struct lab_udp *udp);
const int64_t *lab_udp_sent_ns(const struct lab_udp *udp);
const int32_t *lab_udp_error(const struct lab_udp *udp);
const uint64_t *lab_udp_received_seq(const struct lab_udp *udp);
const int64_t *lab_udp_received_ns(const struct lab_udp *udp);

int lab_tcp_new(const struct lab_tcp_config *config, struct lab_tcp **out);
int lab_tcp_start(struct lab_tcp *tcp);
void lab_tcp_stop(struct lab_tcp *tcp);
void lab_tcp_free(struct lab_tcp *tcp);
void lab_tcp_state(const struct lab_tcp *tcp, struct lab_tcp_state *out);
const struct lab_tcp_sample *lab_tcp_samples(const struct lab_tcp *tcp);
/* cffi: end */

/* Both ends of the wire are this process: the payload is in host byte order. */
struct lab_datagram {
	uint8_t magic;
	uint8_t flow;
	uint64_t seq;
	int64_t sent_ns;
} __attribute__((packed));

#define LAB_UDP_MAGIC 0xb5
#define LAB_UDP_SIZE_MIN ((uint32_t)sizeof(struct lab_datagram))
#define LAB_UDP_SIZE_MAX 65000u

int lab_thread_start(pthread_t *thread, void *(*body)(void *), void *arg);

/**
 * lab_clock_ns() - Read a clock
 * @id:		CLOCK_MONOTONIC, CLOCK_REALTIME, ...
 *
 * Return: the time in ns
 */
static inline int64_t lab_clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts.tv_sec * LAB_NS_PER_S + ts.tv_nsec;
}

/**
 * lab_stopping() - Has a thread been asked to stop?
 * @stop:	Its flag, set by another thread
 *
 * Return: true if so
 */
static inline bool lab_stopping(const bool *stop)
{
	return __atomic_load_n(stop, __ATOMIC_ACQUIRE);
}

/**
 * lab_sleep_until() - Sleep until a deadline or until asked to stop; no system call if it is past
 * @deadline:	CLOCK_MONOTONIC, ns
 * @stop:	The sleeping thread's stop flag
 *
 * Return: true at the deadline, false if asked to stop
 */
static inline bool lab_sleep_until(int64_t deadline, const bool *stop)
{
	while (!lab_stopping(stop)) {
		int64_t now = lab_clock_ns(CLOCK_MONOTONIC);
		int64_t wake = now + LAB_SLICE_MS * 1000000LL;
		struct timespec ts;

		if (now >= deadline)
			return true;
		if (wake > deadline)
			wake = deadline;
		ts.tv_sec = wake / LAB_NS_PER_S;
		ts.tv_nsec = wake % LAB_NS_PER_S;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
	}
	return false;
}

#endif /* TAPBOND_LAB_TRAFFIC_H */
