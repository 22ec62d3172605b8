DROP POLICY "owners read documents" ON storage.objects;
CREATE POLICY "members read documents" ON storage.objects FOR SELECT TO authenticated
    USING (public.is_member_of(organization));
