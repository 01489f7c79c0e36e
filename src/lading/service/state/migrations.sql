-- The schema, step by step. A step is never changed once released; `user_version` counts those that a file has had.

-- step: 1
-- Everything the control plane keeps. `parent` is the function or layer a record belongs to (empty for a function itself),
-- `position` orders records whose names are numbers. `document` is JSON.
CREATE TABLE records (
    account  TEXT NOT NULL,
    region   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    parent   TEXT NOT NULL,
    name     TEXT NOT NULL,
    position INTEGER NOT NULL DEFAULT 0,
    document TEXT NOT NULL,
    PRIMARY KEY (account, region, kind, parent, name)
) WITHOUT ROWID;

CREATE INDEX records_in_order ON records (account, region, kind, parent, position);
-- end

-- step: 2
-- Secrets and settings of this service itself.
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;
-- end
