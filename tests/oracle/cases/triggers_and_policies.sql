-- Triggers, rules, policies, comments, grants

-- [create_trigger]
create trigger tg before insert on orders for each row execute procedure trgf();

-- [create_constraint_trigger]
create constraint trigger tg after insert on orders deferrable for each row execute procedure
    trgf();

-- [create_trigger_pt]
create trigger tg after insert on pt for each row execute procedure trgf();

-- [create_or_replace_trigger]
create or replace trigger tg before insert on orders for each row execute function trgf();

-- [drop_trigger]
-- before:
create trigger tg before insert on orders for each row execute procedure trgf();
-- then:
drop trigger tg on orders;

-- [rename_trigger]
-- before:
create trigger tg before insert on orders for each row execute procedure trgf();
-- then:
alter trigger tg on orders rename to tg2;

-- [disable_trigger]
-- before:
create trigger tg before insert on orders for each row execute procedure trgf();
-- then:
alter table orders disable trigger tg;

-- [enable_trigger]
-- before:
create trigger tg before insert on orders for each row execute procedure trgf();
-- then:
alter table orders enable trigger tg;

-- [disable_trigger_all]
alter table orders disable trigger all;

-- [create_rule]
create rule rl as on delete to orders do instead nothing;

-- [create_policy]
create policy p on orders using (true);

-- [alter_policy]
-- before:
create policy p on orders using (true);
-- then:
alter policy p on orders using (false);

-- [drop_policy]
-- before:
create policy p on orders using (true);
-- then:
drop policy p on orders;

-- [comment_table]
comment on table orders is 'x';

-- [comment_column]
comment on column orders.qty is 'x';

-- [comment_index]
comment on index orders_qty_idx is 'x';

-- [grant]
grant select on orders to r1;

-- [grant_col]
grant select (qty) on orders to r1;

-- [create_statistics]
create statistics st on qty, status from orders;

-- [create_publication]
create publication pub for table orders;

-- [alter_publication_add]
-- before:
create publication pub;
-- then:
alter publication pub add table orders;

-- [create_trigger_when]
create trigger tg before update on orders for each row when (old.qty is distinct from new.qty)
    execute function trgf();

-- [create_trigger_statement]
create trigger tg after truncate on orders for each statement execute function trgf();

-- [create_trigger_view]
create trigger tg instead of insert on vw for each row execute function trgf();

-- [create_trigger_there]
create trigger watched_tg before insert on watched for each row execute function trgf();

-- [create_trigger_missing_function]
create trigger tg before insert on orders for each row execute function nosuch();

-- [drop_trigger_missing]
drop trigger nosuch on orders;

-- [drop_trigger_if_exists]
drop trigger if exists nosuch on orders;

-- [drop_trigger_if_exists_table]
drop trigger if exists tg on nosuch;

-- [enable_always_trigger]
alter table watched enable always trigger watched_tg;

-- [disable_trigger_user]
alter table watched disable trigger user;

-- [enable_replica_trigger]
alter table watched enable replica trigger watched_tg;

-- [create_rule_insert]
create rule rl as on insert to users do also notify users_changed;

-- [drop_rule]
-- before:
create rule rl as on insert to users do also notify users_changed;
-- then:
drop rule rl on users;

-- [create_policy_other_table] its expression reads another table
create policy p on orders using (exists (select 1 from users where users.id = user_id));

-- [drop_policy_missing]
drop policy if exists nosuch on orders;

-- [rename_policy]
alter policy watch on watched rename to watch2;

-- [comment_constraint]
comment on constraint st_chk on orders is 'x';

-- [comment_view]
comment on view vw is 'x';

-- [comment_trigger]
comment on trigger watched_tg on watched is 'x';

-- [comment_sequence]
comment on sequence sq is 'x';

-- [comment_type]
comment on type mood is 'x';

-- [comment_column_of_missing]
comment on column orders.nosuch is 'x';

-- [revoke]
revoke all on orders from r1;

-- [grant_all_tables]
grant select on all tables in schema public to r1;

-- [grant_sequence]
grant usage on sequence sq to r1;

-- [grant_missing]
grant select on nosuch to r1;

-- [drop_statistics]
drop statistics watched_st;

-- [create_statistics_expression]
create statistics st on (lower(note)), qty from orders;

-- [create_publication_all]
create publication pub for all tables;

-- [drop_publication]
-- before:
create publication pub for table orders;
-- then:
drop publication pub;

-- [alter_publication_set]
-- before:
create publication pub for table orders;
-- then:
alter publication pub set table users;

-- [create_event_trigger]
-- before:
create function evt() returns event_trigger language plpgsql as 'begin end';
-- then:
create event trigger et on ddl_command_end execute function evt();
