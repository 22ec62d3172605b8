// Puts the data of a backup back.
const { readFileSync } = require('node:fs');
const { execFileSync } = require('node:child_process');
const [word, backup] = process.argv.slice(2);
if (word !== 'restore') throw new Error(`${word} is no word of this script`);
const psql = `${readFileSync('psql-directory', 'utf8').trim()}/psql`;
execFileSync(psql, ['-Xq', '-1', '-v', 'ON_ERROR_STOP=1', process.env.DATABASE_URL, '-f', `backups/${backup}.sql`]);
console.log('restored', backup);
