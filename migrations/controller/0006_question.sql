-- Which asking of its generation and attempt a device's wish is; NULL in rows of before.

ALTER TABLE device ADD COLUMN question INTEGER;
