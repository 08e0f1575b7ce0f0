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

-- [create_partition_of_deep]
create table deep_af partition of deep for values in ('af');

-- [create_partition_overlapping]
create table pt9 partition of pt for values from (50) to (60);

-- [create_default_partition]
create table pt_rest partition of pt default;

-- [create_partition_partitioned]
create table pt3 partition of pt for values from (300001) to (400001) partition by range (id);

-- [create_partition_with_fk]
-- before:
alter table pt add foreign key (id) references sc.users (id) not valid;
-- then:
create table pt3 partition of pt for values from (300001) to (400001);

-- [create_partition_with_valid_fk]
-- before:
create table ids (id int primary key);
insert into ids select id from pt;
alter table pt add foreign key (id) references ids (id);
-- then:
create table pt3 partition of pt for values from (300001) to (400001);

-- [attach_deep]
-- before:
create table deep_af (area text not null, id int not null, n int);
insert into deep_af select 'af', g, g from generate_series(1, 2000) g;
-- then:
alter table deep attach partition deep_af for values in ('af');

-- [attach_deep_with_key_and_check]
-- before:
create table deep_af (
    area text not null, id int not null, n int, primary key (area, id),
    check (area is not null and area = 'af')
);
insert into deep_af select 'af', g, g from generate_series(1, 2000) g;
-- then:
alter table deep attach partition deep_af for values in ('af');

-- [attach_check_without_nn] the key may be NULL as far as the check says
-- before:
create table nl (id int, k int, v varchar(20), check (id >= 200001 and id < 300001));
insert into nl select g, g, 'v' from generate_series(200001, 202000) g;
-- then:
alter table ptd attach partition nl for values from (200001) to (300001);

-- [attach_nullable_key_check_without_nn] the key may be NULL as far as the check says
-- before:
create table np (id int, k int) partition by range (id);
create table np1 (id int, k int, check (id >= 1 and id < 100001));
insert into np1 select g, g from generate_series(1, 2000) g;
-- then:
alter table np attach partition np1 for values from (1) to (100001);

-- [attach_nullable_key_check_with_nn]
-- before:
create table np (id int, k int) partition by range (id);
create table np1 (id int, k int, check (id is not null and id >= 1 and id < 100001));
insert into np1 select g, g from generate_series(1, 2000) g;
-- then:
alter table np attach partition np1 for values from (1) to (100001);

-- [attach_check_wider] the check allows more than the bound
-- before:
create table np1 (id int not null, k int, v varchar(20), check (id >= 1));
insert into np1 select g, g, 'v' from generate_series(200001, 202000) g;
-- then:
alter table ptd attach partition np1 for values from (200001) to (300001);

-- [attach_check_narrower] the check allows less than the bound
-- before:
create table np1 (id int not null, k int, v varchar(20), check (id >= 200001 and id < 210001));
insert into np1 select g, g, 'v' from generate_series(200001, 202000) g;
-- then:
alter table pt attach partition np1 for values from (200001) to (300001);

-- [attach_wrong_columns]
alter table pt attach partition inh for values from (200001) to (300001);

-- [attach_rows_outside]
alter table pt attach partition pn for values from (500001) to (600001);

-- [attach_missing_constraint] the parent has a check that the partition has not
-- before:
alter table pt add constraint k_chk check (k >= 0);
-- then:
alter table pt attach partition pnc for values from (200001) to (300001);

-- [attach_partitioned] a partitioned table as a partition
-- before:
create table sub (id int not null, k int, v varchar(20)) partition by range (id);
create table sub1 partition of sub for values from (200001) to (250001);
insert into sub select g, g, 'v' from generate_series(200001, 202000) g;
-- then:
alter table pt attach partition sub for values from (200001) to (300001);

-- [attach_with_matching_pk]
-- before:
alter table pt add primary key (id);
alter table pnc add primary key (id);
create index pnc_k on pnc (k);
-- then:
alter table pt attach partition pnc for values from (200001) to (300001);

-- [attach_without_pk]
-- before:
alter table pt add primary key (id);
create index pnc_k on pnc (k);
-- then:
alter table pt attach partition pnc for values from (200001) to (300001);

-- [attach_empty]
-- before:
create table fresh (id int not null, k int, v varchar(20));
-- then:
alter table pt attach partition fresh for values from (300001) to (400001);

-- [detach_deep]
alter table deep detach partition deep_eu;

-- [detach_not_a_partition]
alter table pt detach partition pn;

-- [detach_with_fk]
-- before:
alter table pt add foreign key (id) references sc.users (id) not valid;
-- then:
alter table pt detach partition pt1;

-- [detach_with_valid_fk]
-- before:
create table ids (id int primary key);
insert into ids select id from pt;
alter table pt add foreign key (id) references ids (id);
-- then:
alter table pt detach partition pt1;

-- [detach_referenced]
-- before:
create table refs (area text, id int);
insert into refs select 'eu', g from generate_series(1, 2000) g;
alter table refs add foreign key (area, id) references deep (area, id);
-- then:
alter table deep detach partition deep_us;

-- [drop_partition_with_default]
drop table ptd1;

-- [drop_partition_deep]
drop table deep_eu;

-- [rename_partitioned]
alter table pt rename to parts;

-- [alter_partition_default]
alter table pt1 alter column k set default 5;

-- [set_fillfactor_partition]
alter table pt1 set (fillfactor = 70);

-- [inherit_with_check]
-- before:
alter table inh add constraint inh_chk check (a > 0);
-- then:
alter table inh_c inherit inh;

-- [inherit_with_same_check]
-- before:
alter table inh add constraint inh_chk check (a > 0);
alter table inh_c add constraint inh_chk check (a > 0);
-- then:
alter table inh_c inherit inh;

-- [inherit_own_child]
alter table base inherit derived;

-- [insert_into_partitioned]
insert into pt values (5000, 1, 'x');

-- [update_partitioned]
update pt set v = 'x' where id = 5;

-- [delete_from_partition]
delete from pt1 where id = 5;

-- [select_partitioned_for_update]
select * from pt where id = 5 for update;

-- [domain_on_partitioned] a domain that a partitioned table uses
-- before:
create table dp (id int, d dom_plain) partition by range (id);
create table dp1 partition of dp for values from (1) to (100001);
insert into dp select g, 'x' from generate_series(1, 2000) g;
-- then:
alter domain dom_plain add constraint dc check (value <> 'q');

-- [trigger_on_deep]
create trigger tg after insert on deep for each row execute function trgf();

-- [drop_trigger_partitioned]
-- before:
create trigger tg after insert on pt for each row execute function trgf();
-- then:
drop trigger tg on pt;

-- [disable_trigger_partitioned]
-- before:
create trigger tg after insert on pt for each row execute function trgf();
-- then:
alter table pt disable trigger tg;

-- [enable_rls_partitioned]
alter table pt enable row level security;

-- [comment_partitioned]
comment on table pt is 'parts';

-- [owner_partitioned]
alter table pt owner to r1;

-- [analyze_partitioned]
analyze pt;
