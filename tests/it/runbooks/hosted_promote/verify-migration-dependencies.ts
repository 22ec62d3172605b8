// Every migration that is applied has its file, and no cart has a column that code of before does not know.
const { existsSync, readFileSync } = require('node:fs');
const { execFileSync } = require('node:child_process');
const psql = `${readFileSync('psql-directory', 'utf8').trim()}/psql`;
const ask = (sql) => execFileSync(psql, ['-XAtq', process.env.DATABASE_URL, '-c', sql], { encoding: 'utf8' }).trim().split('\n');
for (const version of ask('SELECT version FROM supabase_migrations.schema_migrations')) {
  if (!existsSync(`supabase/migrations/${version}.sql`)) throw new Error(`${version} has no file`);
}
const columns = ask("SELECT column_name FROM information_schema.columns WHERE table_name = 'carts' ORDER BY 1");
if (columns.join() !== 'currency,id') throw new Error(`carts has ${columns}`);
console.log('verified');
