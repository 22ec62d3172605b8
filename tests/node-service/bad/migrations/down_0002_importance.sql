DROP INDEX IF EXISTS projects_importance;
ALTER TABLE projects DROP COLUMN IF EXISTS importance;
