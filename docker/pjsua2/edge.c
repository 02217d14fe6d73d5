/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A PJSIP module that stands before every other one. What it may do, and for whom, is decided in Python
 * (sipivr/ua/edge.py); here is only what Python cannot reach. See edge.h for the contract.
 *
 * PJSIP walks its modules upwards by priority for what it receives, and downwards for what it sends. One
 * module below the transport layer (8), which prints a message into its buffer, is therefore the first to
 * see a request and the last to see what leaves: the gate and the tap are one.
 */

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <pjsip.h>
#include <pjsua-lib/pjsua.h>

#include "sipivr_edge.h"

/* The message log of pjsua sits at 7; it must not see what was dropped. */
#define EDGE_PRIORITY (PJSIP_MOD_PRIORITY_TRANSPORT_LAYER - 4)

/* From patches/0003: asked for each piece of data before it is parsed. */
extern pj_bool_t (*pjsip_rx_data_filter)(const pjsip_rx_data *rdata);

static pj_bool_t on_rx_request(pjsip_rx_data *rdata);
static pj_bool_t on_rx_response(pjsip_rx_data *rdata);
static pj_status_t on_tx(pjsip_tx_data *tdata);
static pj_status_t on_unload(void);

static pjsip_module edge_module = {
    .name = { "mod-sipivr-edge", 15 },
    .id = -1,
    .priority = EDGE_PRIORITY,
    .unload = &on_unload,
    .on_rx_request = &on_rx_request,
    .on_rx_response = &on_rx_response,
    .on_tx_request = &on_tx,
    .on_tx_response = &on_tx,
};

static struct {
    pjsip_endpoint *endpoint; /* NULL while not started */
    sipivr_edge_request_cb on_request;
    sipivr_edge_tap_cb on_message;
    struct sipivr_edge_network *sources; /* NULL: everybody is heard */
    size_t source_count;
    struct sipivr_edge_counters counters;
} edge;

/* --- Facts about a message ------------------------------------------------------------------------ */

static const char *transport_name(const pjsip_transport *transport)
{
    /* Without the flag, so that IPv6 reads "UDP" too; the address tells the family. */
    return pjsip_transport_get_type_name(transport->key.type & ~PJSIP_TRANSPORT_IPV6);
}

static int32_t print_local(const pjsip_transport *transport, char address[PJ_INET6_ADDRSTRLEN])
{
    address[0] = '\0';
    pj_sockaddr_print(&transport->local_addr, address, PJ_INET6_ADDRSTRLEN, 0);
    return pj_sockaddr_get_port(&transport->local_addr);
}

static uint32_t count_headers(const pjsip_msg *msg)
{
    return (uint32_t)pj_list_size(&msg->hdr);
}

/* Counted over the raw bytes: a multipart body, or one of a type that PJSIP does not know, hides nothing. */
static uint32_t count_crypto_lines(const char *raw, size_t length)
{
    static const char line[] = "a=crypto";
    const size_t line_length = sizeof(line) - 1;
    uint32_t count = 0;
    size_t i;

    for (i = 0; i + line_length < length; ++i) {
        if ((raw[i] == '\n' || raw[i] == '\r') && strncasecmp(raw + i + 1, line, line_length) == 0)
            ++count;
    }
    return count;
}

static int32_t is_in_dialog(const pjsip_rx_data *rdata)
{
    if (rdata->msg_info.to->tag.slen == 0)
        return 0;
    return pjsip_ua_find_dialog(&rdata->msg_info.cid->id, &rdata->msg_info.to->tag,
                                &rdata->msg_info.from->tag, PJ_FALSE) != NULL;
}

static int32_t is_in_transaction(pjsip_rx_data *rdata)
{
    const pjsip_method *method = &rdata->msg_info.msg->line.req.method;
    pj_str_t key;

    /* RFC 3261 section 17.2.3: ACK matches its INVITE. CANCEL has a transaction of its own (section 9.2),
     * but it is the INVITE's that says whether it is wanted.
     */
    if (method->id == PJSIP_CANCEL_METHOD || method->id == PJSIP_ACK_METHOD)
        method = &pjsip_invite_method;
    if (pjsip_tsx_create_key(rdata->tp_info.pool, &key, PJSIP_ROLE_UAS, method, rdata) != PJ_SUCCESS)
        return 0;
    return pjsip_tsx_layer_find_tsx2(&key, PJ_FALSE) != NULL;
}

/* --- The tap ------------------------------------------------------------------------------------------ */

static void show_received(const pjsip_rx_data *rdata)
{
    struct sipivr_edge_message message;
    char local[PJ_INET6_ADDRSTRLEN];

    if (edge.on_message == NULL)
        return;
    message.direction = SIPIVR_EDGE_RECEIVED;
    message.transport = transport_name(rdata->tp_info.transport);
    message.remote_address = rdata->pkt_info.src_name;
    message.remote_port = rdata->pkt_info.src_port;
    message.local_port = print_local(rdata->tp_info.transport, local);
    message.local_address = local;
    message.raw = rdata->msg_info.msg_buf;
    message.raw_length = (size_t)rdata->msg_info.len;
    message.call_id = rdata->msg_info.cid->id.ptr;
    message.call_id_length = (size_t)rdata->msg_info.cid->id.slen;
    edge.on_message(&message);
}

static pj_status_t on_tx(pjsip_tx_data *tdata)
{
    struct sipivr_edge_message message;
    char local[PJ_INET6_ADDRSTRLEN];
    const pjsip_cid_hdr *call_id;

    ++edge.counters.sent;
    if (edge.on_message == NULL)
        return PJ_SUCCESS;
    call_id = PJSIP_MSG_CID_HDR(tdata->msg);
    message.direction = SIPIVR_EDGE_SENT;
    message.transport = transport_name(tdata->tp_info.transport);
    message.remote_address = tdata->tp_info.dst_name;
    message.remote_port = tdata->tp_info.dst_port;
    message.local_port = print_local(tdata->tp_info.transport, local);
    message.local_address = local;
    message.raw = tdata->buf.start;
    message.raw_length = (size_t)(tdata->buf.cur - tdata->buf.start);
    message.call_id = call_id ? call_id->id.ptr : "";
    message.call_id_length = call_id ? (size_t)call_id->id.slen : 0;
    edge.on_message(&message);
    return PJ_SUCCESS; /* anything else would stop the message, and a tap only looks */
}

/* --- The gate ----------------------------------------------------------------------------------------- */

static void answer(pjsip_rx_data *rdata, int32_t status, uint32_t retry_after_s)
{
    pjsip_hdr headers;

    pj_list_init(&headers);
    if (retry_after_s > 0) {
        const int seconds = retry_after_s > 86400 ? 86400 : (int)retry_after_s;
        pj_list_push_back(&headers, pjsip_retry_after_hdr_create(rdata->tp_info.pool, seconds));
    }
    if (pjsip_endpt_respond_stateless(edge.endpoint, rdata, status, NULL, &headers, NULL) == PJ_SUCCESS)
        ++edge.counters.answered;
    else
        ++edge.counters.unanswered;
}

static int32_t ask(pjsip_rx_data *rdata, uint32_t *retry_after_s)
{
    const pjsip_msg *msg = rdata->msg_info.msg;
    char local[PJ_INET6_ADDRSTRLEN];
    struct sipivr_edge_request request;
    int32_t verdict;

    if (edge.on_request == NULL)
        return -1;
    memset(&request, 0, sizeof(request));
    request.transport = transport_name(rdata->tp_info.transport);
    request.source_address = rdata->pkt_info.src_name;
    request.source_port = rdata->pkt_info.src_port;
    request.local_port = print_local(rdata->tp_info.transport, local);
    request.local_address = local;
    request.raw = rdata->msg_info.msg_buf;
    request.raw_length = (size_t)rdata->msg_info.len;
    request.method = msg->line.req.method.name.ptr;
    request.method_length = (size_t)msg->line.req.method.name.slen;
    request.call_id = rdata->msg_info.cid->id.ptr;
    request.call_id_length = (size_t)rdata->msg_info.cid->id.slen;
    request.header_count = count_headers(msg);
    request.crypto_count = count_crypto_lines(request.raw, request.raw_length);
    request.has_replaces = pjsip_msg_find_hdr_by_name(msg, &(pj_str_t){ "Replaces", 8 }, NULL) != NULL;
    request.has_to_tag = rdata->msg_info.to->tag.slen > 0;
    request.in_dialog = is_in_dialog(rdata);
    request.in_transaction = is_in_transaction(rdata);
    verdict = edge.on_request(&request);
    *retry_after_s = request.retry_after_s;
    return verdict;
}

static pj_bool_t on_rx_request(pjsip_rx_data *rdata)
{
    uint32_t retry_after_s = 0;
    int32_t verdict;

    /* A response goes back to where its request came from, and nowhere else. PJSIP would follow the Via's
     * maddr (RFC 3261 section 18.2.2, for multicast), to a third party's address or a name to look up.
     */
    rdata->msg_info.via->maddr_param.slen = 0;

    verdict = ask(rdata, &retry_after_s);
    show_received(rdata);

    if (verdict == SIPIVR_EDGE_PASS) {
        ++edge.counters.passed;
        return PJ_FALSE;
    }
    if (verdict >= 300 && verdict <= 699) {
        /* RFC 3261 section 17: nothing ever answers an ACK. */
        if (rdata->msg_info.msg->line.req.method.id == PJSIP_ACK_METHOD)
            ++edge.counters.dropped;
        else
            answer(rdata, verdict, retry_after_s);
    } else if (verdict == SIPIVR_EDGE_DROP) {
        ++edge.counters.dropped;
    } else {
        ++edge.counters.failed_closed;
    }
    return PJ_TRUE; /* the message ends here */
}

static pj_bool_t on_rx_response(pjsip_rx_data *rdata)
{
    ++edge.counters.responses;
    show_received(rdata);
    return PJ_FALSE;
}

/* --- Before the parser -------------------------------------------------------------------------------- */

static void map_address(const pj_sockaddr *source, uint8_t mapped[16])
{
    static const uint8_t v4_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

    if (source->addr.sa_family == pj_AF_INET6()) {
        memcpy(mapped, &source->ipv6.sin6_addr, 16);
    } else {
        memcpy(mapped, v4_prefix, 12);
        memcpy(mapped + 12, &source->ipv4.sin_addr, 4);
    }
}

static int covers(const struct sipivr_edge_network *network, const uint8_t address[16])
{
    const size_t whole = network->prefix / 8;
    const unsigned rest = network->prefix % 8;

    if (memcmp(network->address, address, whole) != 0)
        return 0;
    return rest == 0 || (network->address[whole] ^ address[whole]) >> (8 - rest) == 0;
}

static pj_bool_t on_data(const pjsip_rx_data *rdata)
{
    uint8_t address[16];
    size_t i;

    if (edge.sources == NULL)
        return PJ_TRUE;
    map_address(&rdata->pkt_info.src_addr, address);
    for (i = 0; i < edge.source_count; ++i) {
        if (covers(&edge.sources[i], address))
            return PJ_TRUE;
    }
    ++edge.counters.foreign;
    if ((rdata->tp_info.transport->flag & PJSIP_TRANSPORT_DATAGRAM) == 0)
        pjsip_transport_shutdown(rdata->tp_info.transport); /* it would only cost a handle */
    return PJ_FALSE;
}

static void on_unparsed(pjsip_tp_dropped_data *data)
{
    if (data->status == PJ_EIGNORED)
        ++edge.counters.keepalives;
    else
        ++edge.counters.unparsed;
}

/* --- The ABI ------------------------------------------------------------------------------------------ */

int sipivr_edge_abi(void)
{
    return SIPIVR_EDGE_ABI;
}

void sipivr_edge_get_build(struct sipivr_edge_build *build)
{
    memset(build, 0, sizeof(*build));
    build->pj_version = pj_get_version();
    build->ioqueue = pj_ioqueue_name();
    build->max_calls = PJSUA_MAX_CALLS;
    build->max_packet_bytes = PJSIP_MAX_PKT_LEN;
    build->max_handles = PJ_IOQUEUE_MAX_HANDLES;
    build->max_log_level = PJ_LOG_MAX_LEVEL;
    build->has_tls = PJSIP_HAS_TLS_TRANSPORT;
    build->has_ipv6 = PJ_HAS_IPV6;
#ifndef NDEBUG
    build->has_asserts = 1;
#endif
}

int sipivr_edge_start(void)
{
    pjsip_endpoint *endpoint = pjsua_get_pjsip_endpt();
    pj_status_t status;

    if (edge.endpoint != NULL)
        return PJ_EEXISTS;
    if (endpoint == NULL)
        return PJ_EINVALIDOP;
    memset(&edge.counters, 0, sizeof(edge.counters));
    edge_module.id = -1;
    status = pjsip_endpt_register_module(endpoint, &edge_module);
    if (status != PJ_SUCCESS)
        return status;
    edge.endpoint = endpoint;
    pjsip_tpmgr_set_drop_data_cb(pjsip_endpt_get_tpmgr(endpoint), &on_unparsed);
    pjsip_rx_data_filter = &on_data;
    return PJ_SUCCESS;
}

int sipivr_edge_stop(void)
{
    pj_status_t status;

    if (edge.endpoint == NULL)
        return PJ_SUCCESS;
    pjsip_tpmgr_set_drop_data_cb(pjsip_endpt_get_tpmgr(edge.endpoint), NULL);
    status = pjsip_endpt_unregister_module(edge.endpoint, &edge_module);
    return status;
}

/* Runs from sipivr_edge_stop(), and when libDestroy comes first. Callbacks go: their owner may be gone. */
static pj_status_t on_unload(void)
{
    sipivr_edge_forget_lookups();
    pjsip_rx_data_filter = NULL;
    free(edge.sources);
    edge.sources = NULL;
    edge.source_count = 0;
    edge.on_request = NULL;
    edge.on_message = NULL;
    edge.endpoint = NULL;
    return PJ_SUCCESS;
}

void sipivr_edge_set_request_callback(sipivr_edge_request_cb cb)
{
    edge.on_request = cb;
}

void sipivr_edge_set_tap(sipivr_edge_tap_cb cb)
{
    edge.on_message = cb;
}

int sipivr_edge_set_sources(const struct sipivr_edge_network *networks, size_t count)
{
    struct sipivr_edge_network *copy = NULL;
    size_t i;

    if (networks != NULL) {
        for (i = 0; i < count; ++i) {
            if (networks[i].prefix > 128)
                return -1;
        }
        copy = calloc(count + 1, sizeof(*copy)); /* + 1: a list of none is still a list */
        if (copy == NULL)
            return -1;
        memcpy(copy, networks, count * sizeof(*copy));
    }
    free(edge.sources);
    edge.sources = copy;
    edge.source_count = copy ? count : 0;
    return 0;
}

void sipivr_edge_get_counters(struct sipivr_edge_counters *counters)
{
    *counters = edge.counters;
}
