CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- n counts orders in the order of the log; the whole order is in doc (JSON), columns are what is searched.
CREATE TABLE orders (
  n INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  state TEXT NOT NULL,
  blueprint TEXT NOT NULL,
  element TEXT,
  pool TEXT,
  parent TEXT,
  created REAL NOT NULL,
  finished REAL,
  doc BLOB NOT NULL
);
CREATE INDEX orders_of_element ON orders (element, n);
CREATE INDEX orders_of_blueprint ON orders (blueprint, n);
CREATE INDEX orders_of_parent ON orders (parent) WHERE parent IS NOT NULL;
CREATE INDEX orders_open ON orders (n) WHERE finished IS NULL;
CREATE INDEX orders_ended_badly ON orders (state, n) WHERE state IN ('failed', 'cancelled');

-- Everything that is alive beside the orders; seq is that of the record that changed it last, doc is JSON.
CREATE TABLE things (kind TEXT, id TEXT, seq INTEGER NOT NULL, doc BLOB NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;

-- seq is the log's; the whole firing, with its event and its orders' ids, is in doc (JSON).
CREATE TABLE firings (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  trigger_name TEXT NOT NULL,
  state TEXT NOT NULL,
  doc BLOB NOT NULL
);
CREATE INDEX firings_of_trigger ON firings (trigger_name, seq);

-- Which sequence the log had reached at a time (seconds since 1970), for the age of events; meta.events_after is the last
-- sequence of which events are no longer kept.
CREATE TABLE marks (time REAL PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
  seq INTEGER, place INTEGER, kind TEXT NOT NULL, subject TEXT NOT NULL, doc BLOB NOT NULL,
  PRIMARY KEY (seq, place)
) WITHOUT ROWID;
