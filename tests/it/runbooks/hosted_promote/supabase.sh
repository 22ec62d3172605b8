#!/bin/sh
# Stands for the command line of Supabase, which no package brings: the same two words on the same table, by psql.
set -eu
ask() { "$PSQL_DIRECTORY/psql" --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 "$DATABASE_URL" "$@"; }
PSQL_DIRECTORY=$(cat psql-directory)
case "$1 $2" in
"migration list") ask -c "SELECT version FROM supabase_migrations.schema_migrations ORDER BY version" ;;
"db push")
    for file in supabase/migrations/*.sql; do
        version=$(basename "$file" .sql)
        if [ -z "$(ask -c "SELECT 1 FROM supabase_migrations.schema_migrations WHERE version = '$version'")" ]; then
            ask --single-transaction -f "$file" -c "INSERT INTO supabase_migrations.schema_migrations VALUES ('$version')"
            echo "applied $version"
        fi
    done
    ;;
*)
    echo "supabase: unknown command $*" >&2
    exit 2
    ;;
esac
