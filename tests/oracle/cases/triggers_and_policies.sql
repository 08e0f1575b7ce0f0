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
