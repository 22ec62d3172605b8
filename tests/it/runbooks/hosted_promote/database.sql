-- A database as the command line of Supabase leaves it, small: carts, and the table of applied migrations.
CREATE SCHEMA supabase_migrations;
CREATE TABLE supabase_migrations.schema_migrations (version text PRIMARY KEY);
INSERT INTO supabase_migrations.schema_migrations VALUES ('20260201090000');
CREATE TABLE public.carts (id int PRIMARY KEY, currency text);
INSERT INTO public.carts SELECT n, 'EUR' FROM generate_series(1, 100) AS n;
