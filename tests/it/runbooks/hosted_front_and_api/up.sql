-- What the bad release brought: a helper that knows no member any more, and a policy that locks them out of their documents.
ALTER TABLE public.tasks ADD COLUMN priority int;
CREATE OR REPLACE FUNCTION public.is_member_of(asked uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT EXISTS (SELECT FROM public.members WHERE organization = asked AND person = current_setting('role'))
$$;
INSERT INTO supabase_migrations.schema_migrations (version, name) VALUES ('20260301120000', 'priorities');

DROP POLICY "members read documents" ON storage.objects;
CREATE POLICY "owners read documents" ON storage.objects FOR SELECT TO authenticated USING (name = current_user);
INSERT INTO supabase_migrations.schema_migrations (version, name) VALUES ('20260301120500', 'document_owners');
