/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What this switch changes in pjproject's defaults. Installed as pjlib/include/pj/config_site.h.
 * The figures were measured on x86-64 with pjproject 2.17, one UDP transport, no media.
 */

/* The most that uaConfig.maxCalls may ask for. The array is allocated by what is asked, not by this: libInit
 * takes 5 MB, and 21 kB more for each call of maxCalls (512: 16 MB, 1,024: 27 MB, 4,096: 92 MB, in 55 ms).
 * One core carries 1,400 call set-ups a second, so 4,096 calls at once are reached at three seconds a call;
 * past that a machine is limited by its media.
 */
#define PJSUA_MAX_CALLS             4096
#define PJSUA_MAX_CONF_PORTS        (PJSUA_MAX_CALLS + 16)

/* Each trunk, and each registration of a trunk, is an account. They are static: about 8 kB each. */
#define PJSUA_MAX_ACC               256

/* Connections over TCP and TLS, listeners included. */
#define PJ_IOQUEUE_MAX_HANDLES      4096
#define PJSIP_MAX_TRANSPORTS        4000
#define PJSIP_TPMGR_HTABLE_SIZE     1023

/* A transaction over UDP stays for 32 s (RFC 3261 timers H and J): 1,400 BYEs a second are 45,000 of them.
 * These size hash tables and the timer heap, 3 MB together; they are no hard limits.
 */
#define PJSIP_MAX_TSX_COUNT         (64 * 1024 - 1)
#define PJSIP_MAX_DIALOG_COUNT      (8 * 1024 - 1)

/* The longest message. What is longer comes cut off from UDP, and closes the connection over TCP. Each
 * connection has a buffer of this size.
 */
#define PJSIP_MAX_PKT_LEN           8000

/* An accepted connection that has sent no message within so many seconds is closed: it costs a handle. */
#define PJSIP_TRANSPORT_SERVER_IDLE_TIME_FIRST 15

/* A trunk says which transport it wants; RFC 3261 section 18.1.1 would move a request above 1,300 bytes to TCP,
 * where most carriers do not listen.
 */
#define PJSIP_DONT_SWITCH_TO_TCP    1

#define PJ_HAS_IPV6                 1
#define PJMEDIA_HAS_VIDEO           0

/* Whole messages are logged at level 4, and bodies may carry a customer's keys. At 3 that code is not even
 * compiled, whatever logConfig says.
 */
#define PJ_LOG_MAX_LEVEL            3
