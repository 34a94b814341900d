CREATE TABLE audit_entries ( id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, time_us BIGINT NOT NULL, principal VARCHAR(255) NOT NULL, via VARCHAR(15) NOT NULL, action VARCHAR(63) NOT NULL, service VARCHAR(63) NOT NULL, target TEXT NOT NULL, detail TEXT NOT NULL, outcome VARCHAR(15) NOT NULL, count BIGINT, reason VARCHAR(127) NOT NULL, message TEXT NOT NULL );
CREATE INDEX audit_entries_by_action ON audit_entries (action, id);
CREATE INDEX ix_audit_entries_time_us ON audit_entries (time_us);
