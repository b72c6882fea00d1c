/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tapbond.h - what the data plane offers to the control plane.
 *
 * The lines between the two cffi marks are read by build_core.py as they stand: plain
 * declarations and integer constants only.
 */
#ifndef TAPBOND_H
#define TAPBOND_H

#include <stdint.h>

/* cffi: begin */

/* Slaves that one pump can hold at a time. */
#define TB_PORTS_MAX 32
/* Queues of the TAP that can be pumped, each by a thread. */
#define TB_QUEUES_MAX 64
/* Announcements that a selection can carry, and the longest (an Ethernet header and an NA with its
 * option), with two VLAN tags. */
#define TB_ANNOUNCE_MAX 128
#define TB_ANNOUNCE_LEN 96
/* Others who speak through the TAP that are remembered, and what announces one of them. */
#define TB_SOURCES_MAX 256
#define TB_RARP_LEN 64
/* The legacy virtio_net_hdr that precedes every frame on the TAP and on the packet sockets. */
#define TB_VNET_LEN 10
/* Two filters of cls_bpf or cls_u32 need some hundred bytes. */
#define TB_FUSE_LEN 2048

/*
 * What the pump tells the control plane.
 * ADOPTED:    a published selection is in force; every fd that it left out may be closed now
 * PORT_FAULT: sending or receiving on a slave failed for the slave's sake; error is an errno
 * SWITCHED:   the slave that sends is now port (-1: none), because of error (0: it was told to)
 * FIRST_TX:   the first frame of the TAP left by the new sender
 * FIRST_RX:   the first frame arrived on it
 * DRAINED:    the drain of the previous receivers is over
 * TAP_FAULT:  the TAP failed for good; error is an errno
 * With several queues each is told once: by the last that adopts, by the first that sees a fault or
 * switches.
 */
#define TB_ADOPTED 1
#define TB_PORT_FAULT 2
#define TB_SWITCHED 3
#define TB_FIRST_TX 4
#define TB_FIRST_RX 5
#define TB_DRAINED 6
#define TB_TAP_FAULT 7

struct tb_event {
	uint32_t kind;
	int32_t port;
	int32_t error;
	uint32_t generation; /* of the selection in force when it happened */
	uint64_t serial;     /* counts the pump's events from 1 */
	uint64_t when_ns;    /* CLOCK_MONOTONIC */
};

struct tb_port {
	int32_t fd;  /* a packet socket, or one end of a socketpair; -1: empty */
	uint32_t id; /* one registration: another id in the same place is another slave */
};

struct tb_announcement {
	uint32_t len;
	uint8_t data[TB_ANNOUNCE_LEN]; /* from the Ethernet header on */
};

/* One consistent picture of who sends and who receives. Published whole, adopted whole. */
struct tb_selection {
	uint32_t generation;  /* set by tb_pump_publish() */
	uint32_t order_len;   /* how many ports of order[] are ready */
	uint64_t seen_serial; /* faults up to this event are settled */
	uint64_t drain_ns;    /* how long a former receiver still delivers unicast */
	struct tb_port port[TB_PORTS_MAX];
	int8_t order[TB_PORTS_MAX]; /* the sender first, then who follows it */
	uint32_t receive;	    /* bit mask of the ports that deliver, unless ... */
	uint32_t receive_sender;    /* ... only the sender delivers, whoever it is (rx=active) */
	uint8_t mac[8];		    /* the failover's, 6 bytes used */
	uint32_t tolerant;	  /* a sender that is down stays the sender until told otherwise */
	uint32_t announce_silent; /* say nothing at a switch, only in rounds */
	uint32_t announce_round;  /* each one more: announce once more on the sender */
	uint32_t announce_count;
	struct tb_announcement announce[TB_ANNOUNCE_MAX];
};

/* Frames as they pass: a GSO super-frame counts as one. Only ever grow. */
struct tb_port_counters {
	uint64_t tx_frames;
	uint64_t tx_bytes;
	uint64_t tx_errors;  /* sends that failed, for whatever reason */
	uint64_t tx_dropped; /* lost here: nobody else could take the frame, or it was malformed */
	uint64_t tx_resent;  /* failed here, then sent by another slave */
	uint64_t rx_frames;
	uint64_t rx_bytes;
	uint64_t rx_errors;    /* runt, truncated, or refused by the TAP */
	uint64_t rx_dropped;   /* this slave may not receive now */
	uint64_t rx_duplicate; /* copies of a frame that another slave delivered during a drain */
	uint64_t announced;
};

struct tb_tap_counters {
	uint64_t tx_dropped; /* no slave was ready */
	uint64_t rx_dropped; /* the TAP would not take it: down, or out of memory */
	uint64_t events_lost;
};

struct tb_pump;

struct tb_pump *tb_pump_new(int tap_fd);
int tb_pump_add_queue(struct tb_pump *pump, int tap_fd);
void tb_pump_set_socket(struct tb_pump *pump, uint32_t queue, uint32_t place, int fd);
void tb_pump_busy_poll(struct tb_pump *pump, uint64_t longest_ns);
uint64_t tb_busy_window(uint64_t window, uint64_t longest, uint64_t waited);
int tb_pump_start(struct tb_pump *pump);
void tb_pump_stop(struct tb_pump *pump);
void tb_pump_free(struct tb_pump *pump);
int tb_pump_event_fd(const struct tb_pump *pump);
uint32_t tb_pump_publish(struct tb_pump *pump, const struct tb_selection *selection);
uint32_t tb_pump_adopted(const struct tb_pump *pump);
int tb_pump_next_event(struct tb_pump *pump, struct tb_event *event);
int tb_pump_sender(const struct tb_pump *pump);
void tb_pump_port_counters(const struct tb_pump *pump, uint32_t port, struct tb_port_counters *out);
void tb_pump_tap_counters(const struct tb_pump *pump, struct tb_tap_counters *out);

int tb_select_sender(const struct tb_selection *selection, uint32_t suspended);
uint32_t tb_select_receivers(const struct tb_selection *selection, int sender);
int tb_vlan_insert(uint8_t *frame, uint32_t len, uint16_t tpid, uint16_t tci);

struct tb_sources;

struct tb_sources *tb_sources_new(void);
void tb_sources_free(struct tb_sources *sources);
void tb_sources_learn(struct tb_sources *sources, uint8_t *frame, uint32_t len, uint64_t now);
int tb_sources_knows(struct tb_sources *sources, uint8_t *frame, uint32_t len, uint64_t now);

int tb_port_bind(int fd, uint32_t ifindex);
int tb_port_bind_deaf(int fd, uint32_t ifindex);
int tb_port_gate(int fd, int open);
int tb_port_direct(int fd, int direct);
int tb_link_ready(int fd, uint32_t ifindex);

struct tb_watch;

struct tb_watch *tb_watch_new(int interval_ms, int asking_fd);
void tb_watch_follow(struct tb_watch *watch, uint32_t place, uint32_t ifindex);
int tb_watch_event_fd(const struct tb_watch *watch);
void tb_watch_free(struct tb_watch *watch);

struct tb_fuse;

struct tb_fuse *tb_fuse_new(int news_fd, int request_fd);
int tb_fuse_arm(struct tb_fuse *fuse, uint32_t ifindex, const uint8_t *request, uint32_t len);
uint32_t tb_fuse_blown(struct tb_fuse *fuse, int *error);
void tb_fuse_free(struct tb_fuse *fuse);

int tb_netns_create(void);
int tb_netns_enter(int fd);
int tb_netns_socket(int fd, int family, int type, int protocol);
int tb_netns_pin(int fd, const char *path);
int tb_netns_unpin(const char *path);

/* cffi: end */

#endif
