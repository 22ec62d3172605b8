ALTER TABLE projects ADD COLUMN importance int;
CREATE INDEX projects_importance ON projects (importance);
INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('0002_importance', 1762500000000);
