CREATE TABLE projects (id int PRIMARY KEY, name text NOT NULL, updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE scenes (id int PRIMARY KEY, project_id int NOT NULL REFERENCES projects, title text NOT NULL);
INSERT INTO projects (id, name) SELECT n, 'project ' || n FROM generate_series(1, 50) n;
INSERT INTO scenes SELECT n, 1 + n % 50, 'scene ' || n FROM generate_series(1, 200) n;
CREATE SCHEMA drizzle;
CREATE TABLE drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint);
INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('0001_projects', 1761900000000);
