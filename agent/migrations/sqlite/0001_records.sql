-- The ledger is one table. Everything else (which events were seen, which permits were given, which streams are open) is an
-- index over it, so there is no second table that could disagree with the chain or be edited without breaking it.
CREATE TABLE records (
    -- Given by the writer, without gaps; the chain contains it.
    sequence      INTEGER PRIMARY KEY NOT NULL CHECK (sequence >= 1),
    stream        TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    -- Version of the body's shape, owned by whoever wrote the body.
    version       INTEGER NOT NULL,
    -- Nanoseconds since 1970-01-01T00:00:00Z.
    at_ns         INTEGER NOT NULL,
    -- 0: nothing, 1: opens the stream, 2: closes the stream.
    mark          INTEGER NOT NULL CHECK (mark IN (0, 1, 2)),
    -- JSON array text: ["event", source, id] or ["permit", plan, step, attempt]. At most one record of each.
    unique_key    TEXT    UNIQUE,
    -- JSON, exactly the text that was hashed.
    body          TEXT    NOT NULL,
    previous_hash BLOB    NOT NULL CHECK (length(previous_hash) = 32),
    hash          BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE INDEX records_by_stream ON records (stream, sequence);

-- Two entries per watch, so that a start finds the open ones without reading history.
CREATE INDEX records_by_mark ON records (stream, sequence, mark) WHERE mark <> 0;

-- The triggers stop mistakes, our own included; they do not stop an attacker, who can drop them. The hashes are for him.
CREATE TRIGGER records_are_never_changed BEFORE UPDATE ON records
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: a record is never changed'); END;

CREATE TRIGGER records_are_never_removed BEFORE DELETE ON records
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: a record is never removed'); END;

-- Two writers that both believe they hold the head cannot both get past this.
CREATE TRIGGER records_follow_one_another BEFORE INSERT ON records
WHEN NEW.sequence <> (SELECT COALESCE(MAX(sequence), 0) + 1 FROM records)
  OR NEW.previous_hash <> COALESCE((SELECT hash FROM records ORDER BY sequence DESC LIMIT 1), zeroblob(32))
BEGIN SELECT RAISE(ABORT, 'a new record must follow the head of the ledger'); END;
