// Makes the migration that reverses another one, from the statements that its author left beside it.
const { copyFileSync, existsSync } = require('node:fs');
const [migration] = process.argv.slice(2);
const down = `supabase/down/${migration}.sql`;
if (!existsSync(down)) throw new Error(`${migration} has no down statements`);
const reverse = `supabase/migrations/${migration}9_reverse.sql`;
copyFileSync(down, reverse);
console.log('made', reverse);
