ALTER TABLE public.tasks DROP COLUMN priority;
CREATE OR REPLACE FUNCTION public.is_member_of(asked uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT EXISTS (
        SELECT FROM public.members
        WHERE organization = asked AND person = current_setting('request.jwt.claims', true)::json ->> 'sub'
    )
$$;
