-- Partitions

-- [create_partition_of]
create table pt3 partition of pt for values from (200001) to (300001);

-- [create_partition_of_default] parent has a DEFAULT partition with 100k rows
create table ptd2 partition of ptd for values from (100001) to (200001);

-- [attach_nocheck]
alter table pt attach partition pn for values from (200001) to (300001);

-- [attach_check] partition has a matching valid CHECK
alter table pt attach partition pnc for values from (200001) to (300001);

-- [attach_check_notvalid]
-- before:
alter table pn add constraint q check (id >= 200001 and id < 300001) not valid;
-- then:
alter table pt attach partition pn for values from (200001) to (300001);

-- [attach_default_scan] CHECK on new partition, DEFAULT partition has 100k rows
alter table ptd attach partition pnd for values from (100001) to (200001);

-- [attach_default_check] CHECK on both
-- before:
alter table ptd_def add constraint dq check (id is not null and not (id >= 100001 and id <
    200001));
-- then:
alter table ptd attach partition pnd for values from (100001) to (200001);

-- [create_like_then_attach] the lock-light alternative to CREATE TABLE .. PARTITION OF
create table pt9 (like pt including all);
alter table pt attach partition pt9 for values from (200001) to (300001);

-- [detach]
alter table pt detach partition pt1;

-- [detach_conc]
-- alone:
alter table pt detach partition pt1 concurrently;

-- [detach_conc_default] parent has DEFAULT partition
-- alone:
alter table ptd detach partition ptd1 concurrently;

-- [drop_partition]
drop table pt1;

-- [truncate_partition]
truncate pt1;

-- [attach_as_default]
alter table pt attach partition pn default;

-- [drop_default_partition]
drop table ptd_def;

-- [reindex_table_pt]
-- alone:
reindex table pt;

-- [attach_fk] parent has an FK
-- before:
create table p3(id int primary key);
insert into p3 select generate_series(1, 2000) union all select generate_series(100001, 102000)
    union all select generate_series(200001, 202000);
alter table pt add foreign key (id) references p3(id);
-- then:
alter table pt attach partition pnc for values from (200001) to (300001);

-- [attach_missing_index] parent has index pt_k_idx; partition lacks it (same as attach_check)
alter table pt attach partition pnc for values from (200001) to (300001);

-- [attach_with_index]
-- before:
create index pnc_k on pnc(k);
-- then:
alter table pt attach partition pnc for values from (200001) to (300001);
