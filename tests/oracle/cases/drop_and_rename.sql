-- Drop, rename, move

-- [dropcol]
alter table orders drop column note;

-- [dropcol_indexed]
alter table orders drop column vc_idx;

-- [dropcol_partitioned]
alter table pt drop column v;

-- [dropcol_fk]
alter table child drop column pid;

-- [dropcol_missing]
alter table orders drop column if exists nosuch;

-- [rename_col]
alter table orders rename column note to note2;

-- [rename_table]
alter table orders rename to orders2;

-- [rename_constraint]
alter table orders rename constraint st_chk to st_chk2;

-- [rename_index]
alter index orders_status_idx rename to oi2;

-- [rename_index_via_table]
alter table orders_status_idx rename to oi2;

-- [set_schema]
-- before:
create schema sc2;
-- then:
alter table orders set schema sc2;

-- [owner_to]
alter table orders owner to r1;
