"""The tables of `switch.db` and how they came to be: migrations, forward only, run when the switch starts.

Rules that must hold whatever the code does are in the schema: an order has one live session
(`payment_session_live_order`), an order has one attempt that may charge (`payment_live_order`), an
identification number exists once for a merchant, audit rows do not change. Nothing of a card has a column but
brand and last 4 (PCI DSS 3.3.1, 3.4.1).

A released migration is never edited; a change is a new one.
"""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("sipivr.switch")


@migrations()
def m0001_registry(db: Database) -> None:
    """Who is served, on which numbers, and where cards go."""
    db.executescript("""
        CREATE TABLE merchant (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
            mode TEXT NOT NULL CHECK (mode IN ('test', 'live')),
            language TEXT NOT NULL,
            identification_digits INTEGER NOT NULL DEFAULT 6 CHECK (identification_digits BETWEEN 4 AND 10),
            active INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
            created_at TEXT NOT NULL
        ) STRICT;

        CREATE TABLE number (
            id TEXT PRIMARY KEY,
            merchant TEXT NOT NULL REFERENCES merchant (id),
            e164 TEXT NOT NULL UNIQUE CHECK (e164 GLOB '+[1-9]*' AND length(e164) BETWEEN 4 AND 16),
            use TEXT NOT NULL CHECK (use IN ('transfer_in', 'inline', 'self_service')),
            line_limit INTEGER NOT NULL DEFAULT 5 CHECK (line_limit BETWEEN 1 AND 10000),
            language TEXT NOT NULL,
            active INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
            created_at TEXT NOT NULL
        ) STRICT;
        CREATE INDEX number_merchant ON number (merchant, id);

        -- Callers are found by a keyed hash; the number itself is sealed.
        CREATE TABLE allowed_caller (
            merchant TEXT NOT NULL REFERENCES merchant (id),
            caller_hash TEXT NOT NULL,
            sealed TEXT NOT NULL,
            display TEXT NOT NULL,
            created_at TEXT NOT NULL,
            PRIMARY KEY (merchant, caller_hash)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE blocked_caller (
            merchant TEXT NOT NULL REFERENCES merchant (id),
            caller_hash TEXT NOT NULL,
            sealed TEXT NOT NULL,
            display TEXT NOT NULL,
            created_at TEXT NOT NULL,
            PRIMARY KEY (merchant, caller_hash)
        ) STRICT, WITHOUT ROWID;

        -- Where a card may go (invariant 6): no command of a merchant writes here.
        CREATE TABLE connector (
            id TEXT PRIMARY KEY,
            kind TEXT NOT NULL,
            url TEXT NOT NULL,
            tls_pin TEXT,
            mode TEXT NOT NULL CHECK (mode IN ('test', 'live')),
            active INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
            proposed_by TEXT,
            confirmed_by TEXT,
            created_at TEXT NOT NULL,
            CHECK (confirmed_by IS NULL OR confirmed_by <> proposed_by)
        ) STRICT;

        CREATE TABLE shop (
            id TEXT PRIMARY KEY,
            merchant TEXT NOT NULL REFERENCES merchant (id),
            name TEXT NOT NULL,
            name_spoken TEXT NOT NULL CHECK (json_valid(name_spoken)),
            gateway_shop_id TEXT NOT NULL,
            password_sealed TEXT NOT NULL,
            connector TEXT NOT NULL REFERENCES connector (id),
            brands TEXT NOT NULL CHECK (json_valid(brands)),
            security_code_required INTEGER NOT NULL CHECK (security_code_required IN (0, 1)),
            job TEXT NOT NULL,
            currency TEXT NOT NULL CHECK (length(currency) = 3),
            active INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
            created_at TEXT NOT NULL,
            -- Order ids are counted by shop; two rows for one account would count them apart.
            UNIQUE (connector, gateway_shop_id)
        ) STRICT;
        CREATE INDEX shop_merchant ON shop (merchant, id);

        CREATE TABLE trunk (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            networks TEXT NOT NULL CHECK (json_valid(networks)),
            merchant TEXT REFERENCES merchant (id),
            trust_identity INTEGER NOT NULL CHECK (trust_identity IN (0, 1)),
            options TEXT NOT NULL CHECK (json_valid(options)),
            active INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
            created_at TEXT NOT NULL
        ) STRICT;

        CREATE TABLE principal (
            id TEXT PRIMARY KEY,
            role TEXT NOT NULL CHECK (role IN ('platform', 'administrator', 'operator', 'api_key')),
            merchant TEXT REFERENCES merchant (id),
            name TEXT NOT NULL,
            extension TEXT,
            permissions TEXT NOT NULL CHECK (json_valid(permissions)),
            active INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
            created_at TEXT NOT NULL,
            deactivated_at TEXT,
            CHECK ((role = 'platform') = (merchant IS NULL))
        ) STRICT;
        CREATE INDEX principal_merchant ON principal (merchant, id);
    """)


@migrations()
def m0002_payments(db: Database) -> None:
    """Sessions, identification numbers and attempts to charge."""
    db.executescript("""
        CREATE TABLE payment_session (
            id TEXT PRIMARY KEY,
            merchant TEXT NOT NULL REFERENCES merchant (id),
            shop TEXT NOT NULL REFERENCES shop (id),
            order_id TEXT NOT NULL CHECK (length(order_id) BETWEEN 1 AND 24),
            amount INTEGER NOT NULL CHECK (amount BETWEEN 1 AND 99999999),
            currency TEXT NOT NULL,
            language TEXT NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('open', 'claimed', 'authorizing', 'unknown', 'paid',
                                                   'declined', 'expired', 'canceled')),
            mode TEXT NOT NULL CHECK (mode IN ('test', 'live')),
            number TEXT REFERENCES number (id),
            metadata TEXT NOT NULL CHECK (json_valid(metadata)),
            created_by TEXT NOT NULL,
            created_at TEXT NOT NULL,
            call TEXT,
            payment TEXT,
            closed_at TEXT,
            version INTEGER NOT NULL DEFAULT 1,
            CHECK (status NOT IN ('claimed', 'authorizing') OR call IS NOT NULL)
        ) STRICT;
        CREATE UNIQUE INDEX payment_session_live_order ON payment_session (shop, order_id)
            WHERE status IN ('open', 'claimed', 'authorizing', 'unknown', 'paid');
        CREATE INDEX payment_session_merchant ON payment_session (merchant, id);
        CREATE INDEX payment_session_status ON payment_session (merchant, status, id);
        CREATE INDEX payment_session_order ON payment_session (merchant, order_id, id);
        CREATE INDEX payment_session_shop ON payment_session (merchant, shop, id);
        CREATE INDEX payment_session_call ON payment_session (call) WHERE call IS NOT NULL;
        CREATE INDEX payment_session_waiting ON payment_session (status) WHERE status = 'open';

        -- UNIQUE (merchant, digits) holds the no-reuse time: a row stays 1,440 minutes.
        CREATE TABLE identification_number (
            merchant TEXT NOT NULL REFERENCES merchant (id),
            digits TEXT NOT NULL CHECK (digits NOT GLOB '*[^0-9]*' AND length(digits) BETWEEN 4 AND 10),
            session TEXT NOT NULL REFERENCES payment_session (id),
            status TEXT NOT NULL CHECK (status IN ('open', 'claimed', 'retired')),
            issued_at TEXT NOT NULL,
            expires_at TEXT NOT NULL,
            PRIMARY KEY (merchant, digits)
        ) STRICT, WITHOUT ROWID;
        CREATE UNIQUE INDEX identification_number_session ON identification_number (session)
            WHERE status <> 'retired';
        CREATE INDEX identification_number_issued ON identification_number (merchant, issued_at);
        CREATE INDEX identification_number_digits ON identification_number (digits);
        CREATE INDEX identification_number_open ON identification_number (merchant, expires_at)
            WHERE status = 'open';

        -- A wrong try leaves its reason, never its digits: they may have been a card's.
        CREATE TABLE claim_failure (
            id INTEGER PRIMARY KEY,
            merchant TEXT NOT NULL REFERENCES merchant (id),
            call TEXT NOT NULL,
            caller_hash TEXT,
            reason TEXT NOT NULL,
            at TEXT NOT NULL
        ) STRICT;
        CREATE INDEX claim_failure_merchant ON claim_failure (merchant, at);

        CREATE TABLE payment (
            id TEXT PRIMARY KEY,
            merchant TEXT NOT NULL REFERENCES merchant (id),
            session TEXT NOT NULL REFERENCES payment_session (id),
            call TEXT,
            shop TEXT NOT NULL REFERENCES shop (id),
            order_id TEXT NOT NULL,
            gateway_order_id TEXT NOT NULL CHECK (length(gateway_order_id) BETWEEN 1 AND 27),
            attempt INTEGER NOT NULL CHECK (attempt BETWEEN 1 AND 99),
            amount INTEGER NOT NULL CHECK (amount >= 0),
            currency TEXT NOT NULL,
            mode TEXT NOT NULL CHECK (mode IN ('test', 'live')),
            status TEXT NOT NULL CHECK (status IN ('intent', 'entered', 'executing', 'unknown', 'approved',
                                                   'declined', 'not_charged')),
            brand TEXT,
            last4 TEXT CHECK (last4 IS NULL OR (length(last4) = 4 AND last4 NOT GLOB '*[^0-9]*')),
            access_id TEXT,
            access_pass_sealed TEXT,
            approval_number TEXT,
            transaction_id TEXT,
            forward TEXT,
            error_codes TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(error_codes)),
            error_category TEXT,
            created_at TEXT NOT NULL,
            executed_at TEXT,
            closed_at TEXT,
            version INTEGER NOT NULL DEFAULT 1,
            UNIQUE (shop, gateway_order_id)
        ) STRICT;
        CREATE UNIQUE INDEX payment_live_order ON payment (shop, order_id)
            WHERE status IN ('intent', 'entered', 'executing', 'unknown', 'approved');
        CREATE INDEX payment_unsettled ON payment (status)
            WHERE status IN ('intent', 'entered', 'executing', 'unknown');
        CREATE INDEX payment_merchant ON payment (merchant, id);
        CREATE INDEX payment_status ON payment (merchant, status, id);
        CREATE INDEX payment_order ON payment (shop, order_id, attempt);
        CREATE INDEX payment_merchant_order ON payment (merchant, order_id, id);
        CREATE INDEX payment_session_id ON payment (session, id);
        CREATE INDEX payment_closed ON payment (closed_at) WHERE closed_at IS NOT NULL;
    """)


@migrations()
def m0003_calls(db: Database) -> None:
    """Calls, legs, timeline and ladder."""
    db.executescript("""
        CREATE TABLE call (
            id TEXT PRIMARY KEY,
            merchant TEXT REFERENCES merchant (id),
            number TEXT REFERENCES number (id),
            called TEXT NOT NULL,
            caller_display TEXT,
            caller_sealed TEXT,
            caller_hash TEXT,
            caller_withheld TEXT,
            session TEXT REFERENCES payment_session (id),
            status TEXT NOT NULL CHECK (status IN ('ringing', 'active', 'capturing', 'ended', 'refused')),
            outcome TEXT,
            refusal TEXT,
            sip_status INTEGER CHECK (sip_status IS NULL OR sip_status BETWEEN 100 AND 699),
            mode TEXT CHECK (mode IS NULL OR mode IN ('test', 'live')),
            started_at TEXT NOT NULL,
            answered_at TEXT,
            capture_started_at TEXT,
            capture_ended_at TEXT,
            ended_at TEXT,
            ended_by TEXT,
            node TEXT NOT NULL,
            version INTEGER NOT NULL DEFAULT 1,
            CHECK ((status IN ('ended', 'refused')) = (ended_at IS NOT NULL)),
            CHECK ((status = 'refused') = (refusal IS NOT NULL)),
            -- A withheld number may admit a call but is never stored (RFC 3323 §4.2, Privacy: id).
            CHECK (caller_withheld IS NULL
                   OR (caller_display IS NULL AND caller_sealed IS NULL AND caller_hash IS NULL))
        ) STRICT;
        CREATE INDEX call_merchant ON call (merchant, id);
        CREATE INDEX call_status ON call (merchant, status, id);
        CREATE INDEX call_outcome ON call (merchant, outcome, id);
        CREATE INDEX call_started ON call (merchant, started_at);
        CREATE INDEX call_number ON call (number, id);
        CREATE INDEX call_caller ON call (caller_hash, id) WHERE caller_hash IS NOT NULL;
        CREATE INDEX call_session ON call (session) WHERE session IS NOT NULL;
        CREATE INDEX call_running ON call (node) WHERE ended_at IS NULL;

        CREATE TABLE leg (
            id TEXT PRIMARY KEY,
            call TEXT NOT NULL REFERENCES call (id) ON DELETE CASCADE,
            party TEXT NOT NULL,
            sip_call_id TEXT NOT NULL,
            trunk TEXT REFERENCES trunk (id),
            codec TEXT,
            dtmf TEXT,
            invited_at TEXT,
            ringing_at TEXT,
            answered_at TEXT,
            ended_at TEXT,
            sip_status INTEGER,
            ended_by TEXT,
            rtp TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(rtp))
        ) STRICT;
        CREATE INDEX leg_call ON leg (call, id);

        CREATE TABLE timeline (
            id INTEGER PRIMARY KEY,
            call TEXT NOT NULL REFERENCES call (id) ON DELETE CASCADE,
            at TEXT NOT NULL,
            type TEXT NOT NULL,
            detail TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(detail))
        ) STRICT;
        CREATE INDEX timeline_call ON timeline (call, id);

        CREATE TABLE ladder (
            id INTEGER PRIMARY KEY,
            call TEXT NOT NULL REFERENCES call (id) ON DELETE CASCADE,
            leg TEXT,
            at TEXT NOT NULL,
            direction TEXT NOT NULL CHECK (direction IN ('in', 'out')),
            peer TEXT NOT NULL,
            summary TEXT NOT NULL,
            text TEXT NOT NULL
        ) STRICT;
        CREATE INDEX ladder_call ON ladder (call, id);
        CREATE INDEX ladder_at ON ladder (at);
    """)


@migrations()
def m0004_journal(db: Database) -> None:
    """The outbox of events and the audit log."""
    db.executescript("""
        -- AUTOINCREMENT: a sequence that was read by someone is never given again, even after retention.
        CREATE TABLE event (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            type TEXT NOT NULL,
            merchant TEXT REFERENCES merchant (id),
            mode TEXT CHECK (mode IS NULL OR mode IN ('test', 'live')),
            created_at TEXT NOT NULL,
            object TEXT NOT NULL CHECK (json_valid(object))
        ) STRICT;
        CREATE INDEX event_merchant ON event (merchant, sequence);
        CREATE INDEX event_created ON event (created_at);

        CREATE TABLE audit (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            at TEXT NOT NULL,
            actor TEXT NOT NULL,
            source TEXT NOT NULL,
            action TEXT NOT NULL,
            object TEXT NOT NULL,
            merchant TEXT,
            detail TEXT NOT NULL CHECK (json_valid(detail)),
            previous TEXT NOT NULL,
            mac TEXT NOT NULL
        ) STRICT;
        CREATE INDEX audit_merchant ON audit (merchant, sequence);
        CREATE INDEX audit_object ON audit (object, sequence);
        CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
            BEGIN SELECT RAISE(ABORT, 'audit rows do not change'); END;
        CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
            BEGIN SELECT RAISE(ABORT, 'audit rows are not deleted'); END;
    """)


@migrations()
def m0005_trunk_srtp(db: Database) -> None:
    """Whether a trunk's media is encrypted."""
    db.executescript("""
        ALTER TABLE trunk ADD COLUMN srtp TEXT NOT NULL DEFAULT 'off'
            CHECK (srtp IN ('off', 'optional', 'required'));
    """)


@migrations()
def m0006_leg_quality(db: Database) -> None:
    """How a leg sounded, here and at its other end; what only counts packets stays in `rtp`."""
    db.executescript("""
        ALTER TABLE leg ADD COLUMN mos REAL CHECK (mos BETWEEN 1 AND 5);
        ALTER TABLE leg ADD COLUMN remote_mos REAL CHECK (remote_mos BETWEEN 1 AND 5);
        ALTER TABLE leg ADD COLUMN round_trip_ms REAL CHECK (round_trip_ms >= 0);
        ALTER TABLE leg ADD COLUMN remote_lost INTEGER;
        ALTER TABLE leg ADD COLUMN remote_jitter_ms REAL CHECK (remote_jitter_ms >= 0);
    """)


@migrations()
def m0007_masks(db: Database) -> None:
    """What the operator's side hears during a capture: by merchant, and by session."""
    db.executescript("""
        ALTER TABLE merchant ADD COLUMN mask TEXT NOT NULL DEFAULT 'comfort_noise'
            CHECK (mask IN ('silence', 'comfort_noise', 'tone', 'scramble', 'clamp'));
        ALTER TABLE merchant ADD COLUMN bridge_mask TEXT NOT NULL DEFAULT 'decoy'
            CHECK (bridge_mask IN ('decoy', 'comfort_noise'));
        ALTER TABLE merchant ADD COLUMN clamp_allowed INTEGER NOT NULL DEFAULT 0 CHECK (clamp_allowed IN (0, 1));
        ALTER TABLE payment_session ADD COLUMN mask TEXT
            CHECK (mask IN ('silence', 'comfort_noise', 'tone', 'scramble', 'clamp'));
    """)


@migrations()
def m0008_number_rules(db: Database) -> None:
    """Where inline calls of a number go, and how."""
    db.executescript("ALTER TABLE number ADD COLUMN rules TEXT NOT NULL DEFAULT '{}';")


@migrations()
def m0009_connector_proposals(db: Database) -> None:
    """Where a card may go is proposed by one platform administrator and confirmed by another."""
    db.executescript("""
        ALTER TABLE connector ADD COLUMN networks TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(networks));
        CREATE TABLE connector_proposal (
            id TEXT PRIMARY KEY,
            connector TEXT NOT NULL,
            kind TEXT NOT NULL,
            url TEXT NOT NULL,
            mode TEXT NOT NULL CHECK (mode IN ('test', 'live')),
            tls_pin TEXT,
            networks TEXT NOT NULL CHECK (json_valid(networks)),
            active INTEGER NOT NULL CHECK (active IN (0, 1)),
            proposed_by TEXT NOT NULL,
            proposed_at TEXT NOT NULL,
            decided_by TEXT,
            decided_at TEXT,
            decision TEXT CHECK (decision IN ('confirmed', 'rejected')),
            CHECK ((decision IS NULL) = (decided_by IS NULL)),
            CHECK (decision IS NOT 'confirmed' OR decided_by <> proposed_by)
        ) STRICT;
        CREATE INDEX connector_proposal_waiting ON connector_proposal (proposed_at) WHERE decision IS NULL;
    """)


@migrations()
def m0010_payment_changes(db: Database) -> None:
    """What is done with a payment after its charge."""
    db.executescript("""
        CREATE TABLE payment_change (
            id TEXT PRIMARY KEY,
            payment TEXT NOT NULL REFERENCES payment (id),
            merchant TEXT NOT NULL REFERENCES merchant (id),
            kind TEXT NOT NULL CHECK (kind IN ('settle', 'void', 'refund', 'amount')),
            amount INTEGER CHECK (amount > 0),
            amount_before INTEGER NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('pending', 'sent', 'unknown', 'done', 'refused')),
            job TEXT,
            error_codes TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(error_codes)),
            reason TEXT,
            requested_by TEXT NOT NULL,
            created_at TEXT NOT NULL,
            sent_at TEXT,
            closed_at TEXT,
            version INTEGER NOT NULL DEFAULT 1
        ) STRICT;
        CREATE UNIQUE INDEX payment_change_open ON payment_change (payment)
            WHERE status IN ('pending', 'sent', 'unknown');
        CREATE INDEX payment_change_payment ON payment_change (payment, id);
    """)


@migrations()
def m0011_direction(db: Database) -> None:
    """Calls that we make; their `caller` is whom we called, so that it is kept as any customer's number is."""
    db.executescript("""
        ALTER TABLE call ADD COLUMN direction TEXT NOT NULL DEFAULT 'inbound'
            CHECK (direction IN ('inbound', 'outbound'));
    """)


@migrations()
def m0012_session_caller(db: Database) -> None:
    """From which number a session's call will come, so that nobody has to key an identification number."""
    db.executescript("""
        ALTER TABLE payment_session ADD COLUMN caller TEXT;
        ALTER TABLE payment_session ADD COLUMN caller_hash TEXT CHECK ((caller_hash IS NULL) = (caller IS NULL));
        CREATE INDEX payment_session_caller ON payment_session (caller_hash)
            WHERE caller_hash IS NOT NULL AND status = 'open';
    """)


def migrate(db: Database) -> tuple[str, ...]:
    """Applies what is missing and returns its names.

    Raises:
        RuntimeError: the database was written by a newer version; migrations only go forward.
    """
    known = {migration.name for migration in migrations._migrations}
    foreign = [applied.name for applied in migrations.applied(db) if applied.name not in known]
    if foreign:
        raise RuntimeError(f"switch.db is from a newer version (it knows {', '.join(foreign)}).")
    missing = tuple(migration.name for migration in migrations.pending(db))
    migrations.apply(db)
    return missing
