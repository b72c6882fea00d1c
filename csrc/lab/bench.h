/* SPDX-License-Identifier: Apache-2.0 */
/* What a measurement drives and counts, from Python through cffi. */
#ifndef TAPBOND_LAB_BENCH_H
#define TAPBOND_LAB_BENCH_H

#include <stdbool.h>
#include <stdint.h>

/* build_traffic.py gives the text between the two cffi marks to cffi: plain declarations only. */
/* cffi: begin */
struct lab_flood_config {
	int tx_fd;	  /* connected to where rx_fd is bound */
	int rx_fd;	  /* bound */
	uint32_t size;	  /* payload bytes of one datagram */
	uint32_t segment; /* 0, or that many datagrams in one UDP_SEGMENT send */
};

/* What a flood has come to so far; each field is right by itself. */
struct lab_flood_state {
	uint64_t sent;	   /* datagrams that the socket took */
	uint64_t refused;  /* datagrams that it did not take */
	uint64_t received; /* payload bytes at the sink */
	uint64_t overflow; /* datagrams lost in front of the sink's socket (SO_RXQ_OVFL) */
	int64_t tx_cpu_ns; /* processor time of the sender */
	int64_t rx_cpu_ns; /* processor time of the sink */
	int64_t at_ns;	   /* when this was read, CLOCK_MONOTONIC */
	int tx_error;	   /* -errno that ended the sender, or 0 */
};

struct lab_echo_config {
	int client_fd;	    /* connected to where server_fd is bound */
	int server_fd;	    /* bound */
	uint32_t size;	    /* payload bytes */
	uint64_t trips_max; /* the client ends by itself after so many */
};

struct lab_flood;
struct lab_echo;
struct lab_spin;

int lab_flood_new(const struct lab_flood_config *config, struct lab_flood **out);
int lab_flood_start(struct lab_flood *flood);
void lab_flood_state(struct lab_flood *flood, struct lab_flood_state *out);
void lab_flood_stop(struct lab_flood *flood);
void lab_flood_free(struct lab_flood *flood);

int lab_echo_new(const struct lab_echo_config *config, struct lab_echo **out);
int lab_echo_start(struct lab_echo *echo);
void lab_echo_stop(struct lab_echo *echo);
void lab_echo_free(struct lab_echo *echo);
uint64_t lab_echo_trips(const struct lab_echo *echo);
uint64_t lab_echo_lost(const struct lab_echo *echo);
const int64_t *lab_echo_trip_ns(const struct lab_echo *echo);

int lab_spin_start(struct lab_spin **out);
void lab_spin_stop(struct lab_spin *spin);

int lab_relay(int tx_fd, int rx_fd, const uint8_t *frame, uint32_t len, uint32_t count);
/* cffi: end */

#endif /* TAPBOND_LAB_BENCH_H */
