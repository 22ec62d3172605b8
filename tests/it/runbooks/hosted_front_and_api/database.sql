-- A database as Supabase lays it out, small: members of organizations, tasks and documents behind row-level security, and
-- the table of applied migrations. The release before the bad one.
CREATE SCHEMA supabase_migrations;
CREATE TABLE supabase_migrations.schema_migrations (version text PRIMARY KEY, statements text[], name text);
INSERT INTO supabase_migrations.schema_migrations (version, name) VALUES ('20260201090000', 'tasks');

CREATE TABLE public.members (organization uuid, person text);
INSERT INTO public.members VALUES ('0b8f3a52-3c3e-4d43-9c55-0c6a2f9d1e11', 'member-1');
CREATE FUNCTION public.is_member_of(asked uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT EXISTS (
        SELECT FROM public.members
        WHERE organization = asked AND person = current_setting('request.jwt.claims', true)::json ->> 'sub'
    )
$$;

CREATE TABLE public.tasks (id int PRIMARY KEY, organization uuid, title text);
INSERT INTO public.tasks SELECT n, '0b8f3a52-3c3e-4d43-9c55-0c6a2f9d1e11', 'task ' || n FROM generate_series(1, 100) AS n;
ALTER TABLE public.tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY "members see tasks" ON public.tasks FOR SELECT TO authenticated USING (public.is_member_of(organization));
GRANT SELECT ON public.tasks TO authenticated;

CREATE SCHEMA storage;
CREATE TABLE storage.objects (id int PRIMARY KEY, bucket_id text, organization uuid, name text);
INSERT INTO storage.objects VALUES (1, 'documents', '0b8f3a52-3c3e-4d43-9c55-0c6a2f9d1e11', 'contract.pdf');
ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY;
CREATE POLICY "members read documents" ON storage.objects FOR SELECT TO authenticated
    USING (public.is_member_of(organization));
GRANT USAGE ON SCHEMA storage TO authenticated;
GRANT SELECT ON storage.objects TO authenticated;
