-- Every statement the service runs, by name. Parameters are named; each query says what it is for.

-- name: get
-- One record by its key.
SELECT document FROM records
WHERE account = :account AND region = :region AND kind = :kind AND parent = :parent AND name = :name;

-- name: put
-- Make or replace a record.
INSERT INTO records (account, region, kind, parent, name, position, document)
VALUES (:account, :region, :kind, :parent, :name, :position, :document)
ON CONFLICT (account, region, kind, parent, name) DO UPDATE SET position = excluded.position, document = excluded.document;

-- name: delete
-- Remove a record.
DELETE FROM records
WHERE account = :account AND region = :region AND kind = :kind AND parent = :parent AND name = :name;

-- name: delete_children
-- Remove all of a kind below a parent.
DELETE FROM records WHERE account = :account AND region = :region AND kind = :kind AND parent = :parent;

-- name: list_by_name
-- A page of a kind below a parent, after a name, in the names' order.
SELECT name, position, document FROM records
WHERE account = :account AND region = :region AND kind = :kind AND parent = :parent AND name > :after
ORDER BY name LIMIT :limit;

-- name: list_by_position
-- A page of a kind below a parent, after a position, in their order.
SELECT name, position, document FROM records
WHERE account = :account AND region = :region AND kind = :kind AND parent = :parent AND position > :after
ORDER BY position, name LIMIT :limit;

-- name: list_by_position_descending
-- The same, newest first, before a position.
SELECT name, position, document FROM records
WHERE account = :account AND region = :region AND kind = :kind AND parent = :parent AND position < :after
ORDER BY position DESC, name LIMIT :limit;

-- name: list_kind
-- A page of a kind whatever its parent, after (parent, position), in that order.
SELECT parent, name, position, document FROM records
WHERE account = :account AND region = :region AND kind = :kind AND (parent, position) > (:parent, :after)
ORDER BY parent, position LIMIT :limit;

-- name: count_kind
-- How many of a kind there are.
SELECT count(*) FROM records WHERE account = :account AND region = :region AND kind = :kind;

-- name: sum_kind
-- The sum of one number in the documents of a kind.
SELECT coalesce(sum(json_extract(document, :path)), 0) FROM records
WHERE account = :account AND region = :region AND kind = :kind;

-- name: find_everywhere
-- All of a kind in every account and region whose document has a value at a path: what a restart has to resume.
SELECT account, region, parent, name, document FROM records WHERE kind = :kind AND json_extract(document, :path) = :value;

-- name: find_named
-- A kind's records of a name in every region of an account.
SELECT account, region, parent, name, document FROM records WHERE account = :account AND kind = :kind AND name = :name;

-- name: list_everywhere
-- All of a kind in every account and region, with their keys.
SELECT account, region, parent, name, document FROM records WHERE kind = :kind;

-- name: keys
-- The keys of a kind in every account and region.
SELECT account, region, parent, name FROM records WHERE kind = :kind ORDER BY position;

-- name: documents
-- All of a kind in every account and region: what is in use.
SELECT document FROM records WHERE kind = :kind;

-- name: get_setting
-- A setting of the service.
SELECT value FROM settings WHERE name = :name;

-- name: put_setting
-- Keep a setting, unless it is there already.
INSERT INTO settings (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING;
