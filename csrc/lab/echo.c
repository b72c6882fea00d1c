// SPDX-License-Identifier: Apache-2.0
/* Round trips over UDP, one at a time: a client that times each and a server that sends back. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "bench.h"
#include "traffic.h"

#define ECHO_SIZE_MAX 1472u
/* A trip that takes longer is lost: so many slices of waiting. */
#define ECHO_SLICES 10

/**
 * struct lab_echo - A client, a server, and the record
 * @config:	How it was asked for
 * @trip_ns:	How long each trip took, in order
 * @trips:	How many there were
 * @lost:	How many did not come back
 * @stop:	Asks both threads to stop
 * @client_running: @client has to be joined
 * @server_running: @server has to be joined
 * @client:	The client
 * @server:	The server
 */
struct lab_echo {
	struct lab_echo_config config;
	int64_t *trip_ns;
	uint64_t trips;
	uint64_t lost;
	bool stop;
	bool client_running;
	bool server_running;
	pthread_t client;
	pthread_t server;
};

/**
 * echo_serve_body() - The server: sends back what it gets, to whom it came from
 * @arg:	The echo
 *
 * Return: NULL
 */
static void *echo_serve_body(void *arg)
{
	struct lab_echo *echo = arg;
	uint8_t payload[ECHO_SIZE_MAX];
	struct sockaddr_storage from;

	while (!lab_stopping(&echo->stop)) {
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(echo->config.server_fd, payload, sizeof(payload), 0,
				     (struct sockaddr *)&from, &len);

		if (n > 0)
			sendto(echo->config.server_fd, payload, n, MSG_NOSIGNAL,
			       (struct sockaddr *)&from, len);
	}
	return NULL;
}

/**
 * echo_await() - Wait for one answer; those to earlier requests are passed over
 * @echo:	The echo
 * @seq:	The number of the request
 *
 * Return: true if it came
 */
static bool echo_await(struct lab_echo *echo, uint64_t seq)
{
	uint8_t payload[ECHO_SIZE_MAX];
	uint64_t got;

	for (int slices = 0; slices < ECHO_SLICES && !lab_stopping(&echo->stop);) {
		ssize_t n = recv(echo->config.client_fd, payload, sizeof(payload), 0);

		if (n < (ssize_t)sizeof(got)) {
			slices++;
			continue;
		}
		memcpy(&got, payload, sizeof(got));
		if (got == seq)
			return true;
	}
	return false;
}

/**
 * echo_ask_body() - The client
 * @arg:	The echo
 *
 * Return: NULL
 */
static void *echo_ask_body(void *arg)
{
	struct lab_echo *echo = arg;
	uint8_t payload[ECHO_SIZE_MAX] = {0};

	for (uint64_t seq = 0; echo->trips < echo->config.trips_max && !lab_stopping(&echo->stop);
	     seq++) {
		int64_t start = lab_clock_ns(CLOCK_MONOTONIC);

		memcpy(payload, &seq, sizeof(seq));
		send(echo->config.client_fd, payload, echo->config.size, MSG_NOSIGNAL);
		if (!echo_await(echo, seq)) {
			if (!lab_stopping(&echo->stop))
				__atomic_add_fetch(&echo->lost, 1, __ATOMIC_RELAXED);
			continue;
		}
		echo->trip_ns[echo->trips] = lab_clock_ns(CLOCK_MONOTONIC) - start;
		__atomic_store_n(&echo->trips, echo->trips + 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

/**
 * lab_echo_new() - Prepare a client and a server
 * @config:	How; copied. The descriptors stay the caller's, and must outlive the echo
 * @out:	Set to the echo
 *
 * Return: 0, -EINVAL for a size or count out of range, -ENOMEM, -errno on failure
 */
int lab_echo_new(const struct lab_echo_config *config, struct lab_echo **out)
{
	const struct timeval slice = {.tv_usec = LAB_SLICE_MS * 1000};
	struct lab_echo *echo;

	if (config->size < sizeof(uint64_t) || config->size > ECHO_SIZE_MAX || !config->trips_max)
		return -EINVAL;
	if (setsockopt(config->client_fd, SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof(slice)) ||
	    setsockopt(config->server_fd, SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof(slice)))
		return -errno;
	echo = calloc(1, sizeof(*echo));
	if (!echo)
		return -ENOMEM;
	echo->config = *config;
	echo->trip_ns = calloc(config->trips_max, sizeof(*echo->trip_ns));
	if (!echo->trip_ns) {
		free(echo);
		return -ENOMEM;
	}
	*out = echo;
	return 0;
}

/**
 * lab_echo_start() - Start the server, then the client
 * @echo:	The echo
 *
 * Return: 0, -EALREADY if it was started before, -errno on failure, when no thread is left running
 */
int lab_echo_start(struct lab_echo *echo)
{
	int rc;

	if (echo->server_running || echo->stop)
		return -EALREADY;
	rc = lab_thread_start(&echo->server, echo_serve_body, echo);
	if (rc)
		return rc;
	echo->server_running = true;
	rc = lab_thread_start(&echo->client, echo_ask_body, echo);
	if (rc) {
		lab_echo_stop(echo);
		return rc;
	}
	echo->client_running = true;
	return 0;
}

/**
 * lab_echo_stop() - Stop both threads and wait for them, at most about LAB_SLICE_MS
 * @echo:	The echo
 */
void lab_echo_stop(struct lab_echo *echo)
{
	__atomic_store_n(&echo->stop, true, __ATOMIC_RELEASE);
	if (echo->client_running)
		pthread_join(echo->client, NULL);
	if (echo->server_running)
		pthread_join(echo->server, NULL);
	echo->client_running = false;
	echo->server_running = false;
}

/**
 * lab_echo_free() - Stop both and give back the memory
 * @echo:	The echo, or NULL
 */
void lab_echo_free(struct lab_echo *echo)
{
	if (!echo)
		return;
	lab_echo_stop(echo);
	free(echo->trip_ns);
	free(echo);
}

/**
 * lab_echo_trips() - How many trips there were
 * @echo:	The echo, which may be running
 *
 * Return: the count, up to which lab_echo_trip_ns() is filled in
 */
uint64_t lab_echo_trips(const struct lab_echo *echo)
{
	return __atomic_load_n(&echo->trips, __ATOMIC_ACQUIRE);
}

/**
 * lab_echo_lost() - How many requests had no answer
 * @echo:	The echo, which may be running
 *
 * Return: the count
 */
uint64_t lab_echo_lost(const struct lab_echo *echo)
{
	return __atomic_load_n(&echo->lost, __ATOMIC_RELAXED);
}

/**
 * lab_echo_trip_ns() - How long each trip took
 * @echo:	The echo
 *
 * Return: lab_echo_trips() times, in ns
 */
const int64_t *lab_echo_trip_ns(const struct lab_echo *echo)
{
	return echo->trip_ns;
}
