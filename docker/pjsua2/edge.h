/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SIPIVR_EDGE_H
#define SIPIVR_EDGE_H

/* What pjsua2 keeps from an application, over a C ABI that ctypes can call.
 *
 * edge.c is linked into pjsua2's extension module; sipivr/ua/edge_binding.py mirrors this file. Change
 * a structure, a signature or a meaning, and SIPIVR_EDGE_ABI goes up by one in both.
 *
 * Every function, and every callback, belongs to the one thread that polls PJSIP. Pointers handed to a
 * callback are good until it returns. Text is NUL-terminated unless a length stands beside it.
 */

#include <stddef.h>
#include <stdint.h>

#define SIPIVR_EDGE_ABI 1

/* A callback's verdict on a request; 300 to 699 answers statelessly with that status.
 *
 * Zero is "drop" on purpose: it is what ctypes returns for a Python callback that raised. Any other
 * value is a fault of ours, and drops too.
 */
#define SIPIVR_EDGE_DROP 0
#define SIPIVR_EDGE_PASS 1

#define SIPIVR_EDGE_RECEIVED 0
#define SIPIVR_EDGE_SENT 1

struct sipivr_edge_request {
    const char *transport;      /* "UDP", "TCP" or "TLS" */
    const char *source_address; /* numeric, without brackets */
    const char *local_address;
    int32_t source_port;
    int32_t local_port;
    const char *raw; /* the message's own bytes; may hold NULs */
    size_t raw_length;
    const char *method;
    size_t method_length;
    const char *call_id;
    size_t call_id_length;
    uint32_t header_count; /* as parsed: a comma-separated list counts each of its values */
    uint32_t crypto_count; /* lines that begin with a=crypto, whatever the body's type */
    int32_t has_replaces;
    int32_t has_to_tag;
    int32_t in_dialog;      /* the tags and Call-ID name a dialog that exists */
    int32_t in_transaction; /* a retransmission, or the ACK or CANCEL of an INVITE that is alive */
    uint32_t retry_after_s; /* out: > 0 adds Retry-After to an answer */
};

struct sipivr_edge_message {
    int32_t direction; /* SIPIVR_EDGE_RECEIVED or SIPIVR_EDGE_SENT */
    const char *transport;
    const char *remote_address;
    const char *local_address;
    int32_t remote_port;
    int32_t local_port;
    const char *raw;
    size_t raw_length;
    const char *call_id;
    size_t call_id_length;
};

/* Since sipivr_edge_start(). Each received request is counted once among the first five. Datagrams of less than
 * 32 bytes are in no count: PJSIP's UDP transport ignores them before anybody can ask.
 */
struct sipivr_edge_counters {
    uint64_t passed;
    uint64_t dropped;        /* by verdict, and ACKs that a verdict would have answered */
    uint64_t answered;
    uint64_t unanswered;     /* the verdict was a status, but PJSIP could not send it */
    uint64_t failed_closed;  /* dropped: no callback, or a verdict that is none */
    uint64_t unparsed;       /* not SIP as PJSIP reads it; never reached a callback */
    uint64_t keepalives;     /* blank lines between messages (RFC 5626 section 3.5.1) */
    uint64_t foreign;        /* datagrams and stream data of sources outside the list, not parsed */
    uint64_t responses;      /* received */
    uint64_t sent;           /* requests and responses handed to a transport */
};

/* One network that may be heard. IPv4 goes as an IPv4-mapped address, so 10.0.0.0/8 has prefix 104. */
struct sipivr_edge_network {
    uint8_t address[16];
    uint8_t prefix; /* bits, 0 to 128 */
};

/* A host name that PJSIP wants to send a request to. */
struct sipivr_edge_lookup {
    uint64_t id;
    const char *name;
    size_t name_length;
    int32_t port;          /* 0: none was given, so SRV applies (RFC 3263 section 4.2) */
    int32_t is_secure;     /* sips: or transport=tls */
    const char *transport; /* "UDP", "TCP" or "TLS"; "" when none was given, so NAPTR applies (section 4.1) */
};

/* One place to try. IPv4 as an IPv4-mapped address; transport 0 UDP, 1 TCP, 2 TLS. */
struct sipivr_edge_address {
    uint8_t address[16];
    uint16_t port;
    uint8_t transport;
};

/* What this build can do; config_site.h decides. */
struct sipivr_edge_build {
    const char *pj_version;
    const char *ioqueue; /* "epoll" */
    int32_t max_calls;   /* the most that uaConfig.maxCalls can be */
    int32_t max_packet_bytes;
    int32_t max_handles;
    int32_t max_log_level;
    int32_t has_tls;
    int32_t has_ipv6;
    int32_t has_asserts; /* then a packet may abort the process */
};

typedef void (*sipivr_edge_lookup_cb)(const struct sipivr_edge_lookup *lookup);
typedef int32_t (*sipivr_edge_request_cb)(struct sipivr_edge_request *request);
typedef void (*sipivr_edge_tap_cb)(const struct sipivr_edge_message *message);

int sipivr_edge_abi(void);

/* Needs no endpoint. */
void sipivr_edge_get_build(struct sipivr_edge_build *build);

/* After libInit and before the first transport, or what arrives between passes. 0, or a pj_status_t. */
int sipivr_edge_start(void);

/* Before libDestroy, and not from a callback. Takes 100 ms once there was traffic (PJSIP waits). */
int sipivr_edge_stop(void);

/* NULL drops every request. */
void sipivr_edge_set_request_callback(sipivr_edge_request_cb cb);

/* Sees each message after its verdict, with the bytes as they are on the wire. NULL for none. */
void sipivr_edge_set_tap(sipivr_edge_tap_cb cb);

/* Who may be heard at all: anybody else's data is counted and thrown away before a byte of it is parsed.
 * The list is copied. count 0 hears nobody; networks NULL lifts the restriction, as at the start.
 * 0, or -1 when memory is short or a prefix is above 128, and then the old list holds.
 */
int sipivr_edge_set_sources(const struct sipivr_edge_network *networks, size_t count);

/* Takes over names, which otherwise fail at once (patches/0002). Each question must be answered some time, by
 * sipivr_edge_resolved() with the addresses in the order to try, up to 8 of them, or with none for a failure;
 * from within the callback or later. 0, or a pj_status_t.
 */
int sipivr_edge_set_lookup(sipivr_edge_lookup_cb cb);

/* -1: nobody waits for this any more. */
int sipivr_edge_resolved(uint64_t id, const struct sipivr_edge_address *addresses, size_t count);

/* Between edge.c and edge_lookup.c only. */
void sipivr_edge_forget_lookups(void);

void sipivr_edge_get_counters(struct sipivr_edge_counters *counters);

#endif
